"""The registered model, as far as `stages/` and `serve/` both know it; neither imports the other.

Its aliases and the only way to move them, its tags and the names of its files, and how MLflow's client
is set up and its errors are told. The client is given, and MLflow is imported only once there is one.
"""

import json
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

# Tags of a version. The verdict is set last: a version without it was interrupted.
SHA256, SCHEMA, VERDICT = "model_sha256", "schema_fingerprint", "verdict"
THRESHOLD = "threshold"  # the probability from which the prediction is presence
PASSED, REJECTED = "passed", "refused"  # what a verdict says
# Where MLflow puts the files beside the model, and the one that no version is served without.
BESIDE_FOLDER, SELF_TEST = "extra_files", "self_test.json"
STANDARD_ERROR, TRAINING, REFERENCE = "standard_error.onnx", "training.json", "reference.json"

# Settings of MLflow's client, unless the environment says otherwise.
CLIENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that does not answer is an error within seconds, not after MLflow's ten minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class AliasError(ValueError):
    """The aliases stay as they are; the message says why."""


def set_up_client() -> None:
    """Before MLflow is imported: its settings, where they are not set already."""
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)


def hash_tag(file: str) -> str:
    """The tag with the SHA-256 of a file beside the model."""
    return f"{Path(file).stem}_sha256"


def is_threshold(told: str) -> bool:
    """Whether a tag is a probability that can part two predictions."""
    try:
        return 0 < float(told) < 1
    except (TypeError, ValueError):
        return False


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def without_password(text: str) -> str:
    """The text without the users and passwords of the URIs in it, which MLflow repeats."""
    return re.sub(r"//[^/\s]*@", "//", text)


def aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """The number of the version that has each alias; empty for a model that is not registered."""
    registered = client.search_registered_models(f"name = '{name}'")
    found = registered[0].aliases if registered else {}
    return {alias: str(number) for alias, number in found.items()}


def set_champion(client: "MlflowClient", name: str, number: str) -> None:
    """Make a version the champion, unchecked; the one that was becomes `previous`."""
    number = str(number)  # some of MLflow's stores say 1, some "1"
    old = aliases(client, name).get(CHAMPION)
    if old == number:
        return
    if old is not None:
        client.set_registered_model_alias(name, PREVIOUS, old)
    client.set_registered_model_alias(name, CHAMPION, number)


def promote(client: "MlflowClient", name: str, number: str) -> None:
    """Make a version the champion if it passed its gate and can be served. Raises AliasError."""
    _judged(_servable(client, name, number))
    set_champion(client, name, number)


def set_challenger(client: "MlflowClient", name: str, number: str) -> None:
    """Have the service score with a version beside the champion. Raises AliasError.

    It need not have passed its gate: nobody is answered with it.
    """
    _servable(client, name, number)
    client.set_registered_model_alias(name, CHALLENGER, number)


def clear_challenger(client: "MlflowClient", name: str) -> None:
    """Have no challenger any more."""
    if CHALLENGER in aliases(client, name):
        client.delete_registered_model_alias(name, CHALLENGER)


def roll_back(client: "MlflowClient", name: str, champion: str | None = None) -> str:
    """Give `champion` to the version that is `previous`, and return its number. Raises AliasError.

    `previous` stays where it is: to go back twice, or from many replicas at once, is to go back once.
    If a version is given, it must be the champion: who judged one must not turn out another.
    """
    held = aliases(client, name)
    if champion is not None and held.get(CHAMPION) not in (champion, held.get(PREVIOUS)):
        raise AliasError(f"{name}: version {champion} is no longer the champion")
    if PREVIOUS not in held:
        raise AliasError(f"{name} has no version with the alias {PREVIOUS} to go back to")
    number = held[PREVIOUS]
    _judged(_servable(client, name, number))
    if held.get(CHAMPION) != number:
        client.set_registered_model_alias(name, CHAMPION, number)
    return number


def _servable(client: "MlflowClient", name: str, number: str) -> "ModelVersion":
    """A version that has what the service wants of one. Raises AliasError."""
    version = _version(client, name, number)
    said = f"{name} version {number}"
    if not re.fullmatch("[0-9a-f]{64}", version.tags.get(SHA256, "")):
        raise AliasError(f"{said}: its tag {SHA256} is no SHA-256")
    if version.tags.get(SCHEMA) != fingerprint():
        raise AliasError(f"{said}: its measurements are not those of this project ({SCHEMA})")
    if not is_threshold(told := version.tags.get(THRESHOLD, "")):
        raise AliasError(f"{said}: its tag {THRESHOLD} is {told!r}, expected a number in (0, 1)")
    if SELF_TEST not in _files_beside(client, version):
        raise AliasError(f"{said}: {BESIDE_FOLDER}/{SELF_TEST} is not among its files")
    return version


def _judged(version: "ModelVersion") -> None:
    """Raises AliasError unless the version passed its gate."""
    said = f"{version.name} version {version.version}"
    try:
        verdict: Any = json.loads(version.tags[VERDICT])
        passed = verdict["verdict"]
    except (KeyError, TypeError, ValueError):
        raise AliasError(
            f"{said} has no verdict of the gate: `make register` finishes what was interrupted"
        ) from None
    if passed != PASSED:
        reasons = "; ".join(map(str, verdict.get("reasons", [])))
        raise AliasError(f"{said} was refused by the gate: {reasons}")


def _version(client: "MlflowClient", name: str, number: str) -> "ModelVersion":
    if not re.fullmatch("[1-9][0-9]{0,8}", number):
        raise AliasError(f"{number!r} is no version: expected a whole number from 1 on")
    found = client.search_model_versions(f"name = '{name}'")
    numbers = sorted(int(version.version) for version in found)
    for version in found:
        if str(version.version) == number:
            return version
    there = ", ".join(map(str, numbers)) or "none"
    raise AliasError(f"{name} has no version {number}; there are: {there}")


def _files_beside(client: "MlflowClient", version: "ModelVersion") -> set[str]:
    from mlflow.artifacts import list_artifacts

    recorded = client.get_model_version_download_uri(version.name, version.version)
    uri = local_store.resolve(recorded, client.tracking_uri)
    files = list_artifacts(artifact_uri=f"{uri}/{BESIDE_FOLDER}", tracking_uri=client.tracking_uri)
    return {file.path.rpartition("/")[2] for file in files}
