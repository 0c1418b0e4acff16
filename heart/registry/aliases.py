"""The registered model: its aliases, tags and file names, and the setup of MLflow's client.

`stages/` and `serve/` share this module, since neither may import the other. Aliases change only through
its functions. The client is an argument, so that importing this module does not import MLflow.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heart.registry import local_store
from heart.schema import fingerprint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
APPROVED = "approved"  # the last version that a person approved, which the gate compares with too
APPROVED_BY, APPROVED_AT = "approved_by", "approved_at"  # tags of that version

# Tags of a version. The verdict is set last: a version without it was interrupted.
SHA256, SCHEMA, VERDICT = "model_sha256", "schema_fingerprint", "verdict"
THRESHOLD = "threshold"  # the probability from which the prediction is presence
PASSED, REJECTED = "passed", "rejected"  # the values of a verdict
# The folder in which MLflow stores the files beside the model, and the file that a served version must have.
BESIDE_FOLDER, SELF_TEST = "extra_files", "self_test.json"
STANDARD_ERROR, TRAINING, REFERENCE = "standard_error.onnx", "training.json", "reference.json"

# Settings of MLflow's client, unless the environment says otherwise.
CLIENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that does not answer is an error within seconds, not after MLflow's ten minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # This project reports errors itself, once and without a stack trace.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}


class AliasError(ValueError):
    """The aliases were not changed; the message gives the reason."""


def set_up_client() -> None:
    """Set MLflow's environment variables that are not set yet. Call it before MLflow is imported."""
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)
    for library in ("alembic", "urllib3"):  # which report each attempt
        logging.getLogger(library).setLevel(logging.CRITICAL)


def hash_tag(file: str) -> str:
    """The tag with the SHA-256 of a file beside the model."""
    return f"{Path(file).stem}_sha256"


# The tags on which predictions depend.
IDENTITY = (
    SHA256, SCHEMA, THRESHOLD, *map(hash_tag, (STANDARD_ERROR, TRAINING, REFERENCE))
)  # fmt: skip


def is_threshold(tag: str) -> bool:
    """Whether the value of a tag is a number in (0, 1)."""
    try:
        return 0 < float(tag) < 1
    except (TypeError, ValueError):
        return False


def aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """The number of the version that has each alias; empty for a model that is not registered."""
    registered = client.search_registered_models(f"name = '{name}'")
    numbers = registered[0].aliases if registered else {}
    return {alias: str(number) for alias, number in numbers.items()}


def set_champion(client: "MlflowClient", name: str, number: str) -> None:
    """Make a version the champion without a check; the old champion becomes `previous`."""
    number = str(number)  # some of MLflow's stores say 1, some "1"
    old = aliases(client, name).get(CHAMPION)
    if old == number:
        return
    if old is not None:
        client.set_registered_model_alias(name, PREVIOUS, old)
    client.set_registered_model_alias(name, CHAMPION, number)


def promote(client: "MlflowClient", name: str, number: str) -> None:
    """Make a version the champion if it passed the promotion gate and can be served. Raises AliasError."""
    _require_passed(_servable_version(client, name, number))
    set_champion(client, name, number)


def approve(client: "MlflowClient", name: str, number: str, person: str, at: str) -> None:
    """Record that a person approved a version that passed the promotion gate. Raises AliasError.

    The promotion gate compares later versions with it too, besides the champion.
    """
    _require_passed(_servable_version(client, name, number))
    client.set_model_version_tag(name, number, APPROVED_BY, person)
    client.set_model_version_tag(name, number, APPROVED_AT, at)
    client.set_registered_model_alias(name, APPROVED, number)


def approved_version(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that a person approved; before that, the first one that passed the promotion gate."""
    if APPROVED in aliases(client, name):
        return client.get_model_version_by_alias(name, APPROVED)
    versions = client.search_model_versions(f"name = '{name}'")
    passed = [version for version in versions if has_passed(version)]
    return min(passed, key=lambda version: int(version.version), default=None)


def has_passed(version: "ModelVersion") -> bool:
    """Whether the version passed the promotion gate."""
    try:
        _require_passed(version)
    except AliasError:
        return False
    return True


def set_challenger(client: "MlflowClient", name: str, number: str) -> None:
    """Have the service score with a version beside the champion. Raises AliasError.

    The version need not have passed the promotion gate: its predictions are not part of any response.
    """
    _servable_version(client, name, number)
    client.set_registered_model_alias(name, CHALLENGER, number)


def clear_challenger(client: "MlflowClient", name: str) -> None:
    """Remove the alias `challenger`."""
    if CHALLENGER in aliases(client, name):
        client.delete_registered_model_alias(name, CHALLENGER)


def roll_back(client: "MlflowClient", name: str, champion: str | None = None) -> str:
    """Give `champion` to the version that is `previous`, and return its number. Raises AliasError.

    `previous` does not move, so that a second rollback, or one from each of several replicas, changes
    nothing more. If `champion` is given, only that version is replaced: the caller has evaluated it, not
    a newer one.
    """
    numbers = aliases(client, name)
    if champion is not None and numbers.get(CHAMPION) not in (champion, numbers.get(PREVIOUS)):
        raise AliasError(f"{name}: version {champion} is no longer the champion")
    if PREVIOUS not in numbers:
        raise AliasError(f"{name} has no version with the alias {PREVIOUS} to go back to")
    number = numbers[PREVIOUS]
    _require_passed(_servable_version(client, name, number))
    if numbers.get(CHAMPION) != number:
        client.set_registered_model_alias(name, CHAMPION, number)
    return number


def _servable_version(client: "MlflowClient", name: str, number: str) -> "ModelVersion":
    """A version with all tags and files that the service requires. Raises AliasError."""
    version = require_version(client, name, number)
    label = f"{name} version {number}"
    if not re.fullmatch("[0-9a-f]{64}", version.tags.get(SHA256, "")):
        raise AliasError(f"{label}: its tag {SHA256} is not a SHA-256")
    if version.tags.get(SCHEMA) != fingerprint():
        raise AliasError(f"{label}: its measurements are not those of this project ({SCHEMA})")
    if not is_threshold(tag := version.tags.get(THRESHOLD, "")):
        raise AliasError(f"{label}: its tag {THRESHOLD} is {tag!r}, expected a number in (0, 1)")
    if SELF_TEST not in _files_beside(client, version):
        raise AliasError(f"{label}: {BESIDE_FOLDER}/{SELF_TEST} is not among its files")
    return version


def _require_passed(version: "ModelVersion") -> None:
    """Raises AliasError unless the version passed the promotion gate."""
    label = f"{version.name} version {version.version}"
    try:
        verdict: Any = json.loads(version.tags[VERDICT])
        passed = verdict["verdict"]
    except (KeyError, TypeError, ValueError):
        raise AliasError(
            f"{label} has no verdict of the promotion gate: run `make register` to complete it"
        ) from None
    if passed != PASSED:
        reasons = "; ".join(map(str, verdict.get("reasons", [])))
        raise AliasError(f"{label} was rejected by the promotion gate: {reasons}")


def require_version(client: "MlflowClient", name: str, number: str) -> "ModelVersion":
    """The version with a number. Raises AliasError."""
    if not re.fullmatch("[1-9][0-9]{0,8}", number):
        raise AliasError(f"{number!r} is not a version, expected a whole number from 1")
    versions = client.search_model_versions(f"name = '{name}'")
    for version in versions:
        if str(version.version) == number:
            return version
    numbers = sorted(int(version.version) for version in versions)
    known = ", ".join(map(str, numbers)) or "none"
    raise AliasError(f"{name} has no version {number}; known versions: {known}")


def _files_beside(client: "MlflowClient", version: "ModelVersion") -> set[str]:
    from mlflow.artifacts import list_artifacts

    location = client.get_model_version_download_uri(version.name, version.version)
    uri = local_store.resolve(location, client.tracking_uri)
    files = list_artifacts(artifact_uri=f"{uri}/{BESIDE_FOLDER}", tracking_uri=client.tracking_uri)
    return {file.path.rpartition("/")[2] for file in files}
