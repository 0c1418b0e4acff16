"""Clients that nobody of this project wrote call CDS Hooks and FHIR of a running service."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.heart.predictions.logs import until
from tests.heart.registry.registry_fixture import ROOT
from tests.serve.server_process import served

pytest.importorskip("fhir.resources", reason="requirements/fhir.txt is not installed")

from tests.serve.fhir.resources import PATIENT_ID, complete, request

pytestmark = pytest.mark.integration

PYTHON = ROOT / ".venv-peers/healthchain/bin/python"
SCRIPT = Path(__file__).parent / "foreign_client.py"


@pytest.mark.skipif(
    not PYTHON.exists(), reason="healthchain is not installed: make .venv-peers/healthchain"
)
def test_healthchain_calls_both_interfaces(watched: Path, tmp_path: Path) -> None:
    registry = watched / "registry" / "mlflow.db"
    prefetch = json.dumps(request(*complete()[:4])["prefetch"])
    with served(tmp_path, registry, fhir=True, cds_hooks=True) as server:
        until(lambda: server.answers("/health/ready"))
        done = subprocess.run(
            [PYTHON, SCRIPT, f"http://127.0.0.1:{server.port}", PATIENT_ID],
            input=prefetch, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        log = server.client.get("/metrics").text

    result = json.loads(done.stdout)
    assert f"{result['probability']:.0%}" in result["summary"]
    assert result["indicator"] == "info"
    assert result["feedback"] == 200
    assert result["contained"] == len(["Device", "Provenance", "Patient", "age"]) + 4
    assert 'route="/cds-services/heart-disease-risk"' in log
