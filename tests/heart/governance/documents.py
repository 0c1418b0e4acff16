"""The documents of the version that this checkout's committed figures describe."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from heart import files
from heart.governance import answers
from heart.governance.answers import STAGES, common, placeholders

ROOT = Path(__file__).parents[3]
TABLES = sorted(path.stem for path in Path(answers.__file__).parent.glob("*.yaml"))
UCI = "5c974b97d9a188e986ad361c38217c8f"
VERSION = {
    "name": "heart-disease",
    "number": "1",
    "created": "2026-11-27",
    "created_at": "2026-11-27T09:30:00+00:00",
    "git_commit": "0" * 40,
    "model_sha256": "1" * 64,
    "train_md5": "2" * 32,
    "test_md5": "3" * 32,
}
ESTIMATE = {"value": 0.8, "low": 0.7, "high": 0.9}
VALIDATION = {  # what the tables name of a report; tests/monitoring/test_validate.py looks them up in a real one
    "file": "clinic.csv",
    "file_sha256": "4" * 64,
    "groups": {
        "all": {"patients": 300, "roc_auc": 0.8},
        "sex_female": {"patients": 9, "roc_auc": None},
    },
    "validation": {
        "patients": 300,
        "with_disease": 192,
        "verdict": "recalibrate first",
        "roc_auc": ESTIMATE,
    },
}


def figures() -> dict[str, Any]:
    """The documents of all stages."""
    return {
        stage: json.loads((ROOT / files.METRICS / f"{stage}.json").read_text()) for stage in STAGES
    }


def complete(raw_md5: str = UCI) -> dict[str, Any]:
    """All documents; for the hash of another table than the project's its origin is unknown."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    return {
        **common(raw_md5),
        **figures(),
        "params": params,
        "version": VERSION,
        "validation": VALIDATION,
    }


def names(content: Any) -> Iterator[str]:
    """Every placeholder of a table, and every figure that it names."""
    match content:
        case dict():
            if "figure" in content:
                yield content["groups" if "groups" in content else "figure"]
            else:
                yield from (name for item in content.values() for name in names(item))
        case list():
            for item in content:
                yield from names(item)
        case str():
            yield from (name for _, name, _ in placeholders(content) if name)
