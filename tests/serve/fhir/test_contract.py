"""CDS Hooks against its own description: schemathesis."""

import subprocess
from pathlib import Path

import pytest

from tests.serve.server_process import served

pytestmark = pytest.mark.integration
pytest.importorskip("fhir.resources", reason="requirements/fhir.txt is not installed")


def test_every_response_matches_the_openapi_document(watched: Path, tmp_path: Path) -> None:
    # What is generated has no Patient in it and no known card.
    (tmp_path / "schemathesis.toml").write_text(
        '[[operations]]\ninclude-path-regex = "^/cds-services/"\n'
        "checks.positive_data_acceptance.expected-statuses = [200, 404, 412]\n"
    )
    registry = watched / "registry" / "mlflow.db"
    with served(tmp_path, registry, cds_hooks=True) as server:
        done = subprocess.run(
            [
                "schemathesis", "run", f"{server.client.base_url}/openapi.json", "--checks=all",
                "--include-path-regex=^/cds-services", "--generation-deterministic", "--max-examples=30", "--no-color",
            ],
            cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout
