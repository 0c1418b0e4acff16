"""The aliases of the registered model: who has them, and the only way to move them.

A person, the gate of stage register and the service move aliases alike, and neither of `stages/` and
`serve/` imports the other: so this belongs to both. It is given the client, and MLflow is imported
only once there is one.
"""

import json
import re
from typing import TYPE_CHECKING, Any

from schema import fingerprint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"

# Tags of a version. The verdict is set last: a version without it was interrupted.
SHA256, SCHEMA, VERDICT = "model_sha256", "schema_fingerprint", "verdict"
PASSED, REFUSED = "champion", "refused"  # what a verdict says
# Where MLflow puts the files beside the model, and the one that no version is served without.
BESIDE_FOLDER, SELF_TEST = "extra_files", "self_test.json"


class NotMovedError(ValueError):
    """The aliases stay as they are; the message says why."""


def aliases(client: "MlflowClient", name: str) -> dict[str, str]:
    """The number of the version that has each alias; empty for a model that is not registered."""
    registered = client.search_registered_models(f"name = '{name}'")
    found = registered[0].aliases if registered else {}
    return {alias: str(number) for alias, number in found.items()}


def move(client: "MlflowClient", name: str, number: str) -> None:
    """Make a version the champion, unchecked; the one that was becomes `previous`."""
    number = str(number)  # some of MLflow's stores say 1, some "1"
    old = aliases(client, name).get(CHAMPION)
    if old == number:
        return
    if old is not None:
        client.set_registered_model_alias(name, PREVIOUS, old)
    client.set_registered_model_alias(name, CHAMPION, number)


def promote(client: "MlflowClient", name: str, number: str) -> None:
    """Make a version the champion if it passed its gate and can be served. Raises NotMovedError."""
    _judged(_servable(client, name, number))
    move(client, name, number)


def challenge(client: "MlflowClient", name: str, number: str) -> None:
    """Have the service score with a version beside the champion. Raises NotMovedError.

    It need not have passed its gate: nobody is answered with it.
    """
    _servable(client, name, number)
    client.set_registered_model_alias(name, CHALLENGER, number)


def withdraw(client: "MlflowClient", name: str) -> None:
    """Have no challenger any more."""
    if CHALLENGER in aliases(client, name):
        client.delete_registered_model_alias(name, CHALLENGER)


def roll_back(client: "MlflowClient", name: str, champion: str | None = None) -> str:
    """Give `champion` to the version that is `previous`, and return its number. Raises NotMovedError.

    `previous` stays where it is: to go back twice, or from many replicas at once, is to go back once.
    If a version is given, it must be the champion: who judged one must not turn out another.
    """
    held = aliases(client, name)
    if champion is not None and held.get(CHAMPION) not in (champion, held.get(PREVIOUS)):
        raise NotMovedError(f"{name}: version {champion} is no longer the champion")
    if PREVIOUS not in held:
        raise NotMovedError(f"{name} has no version with the alias {PREVIOUS} to go back to")
    number = held[PREVIOUS]
    _judged(_servable(client, name, number))
    if held.get(CHAMPION) != number:
        client.set_registered_model_alias(name, CHAMPION, number)
    return number


def _servable(client: "MlflowClient", name: str, number: str) -> "ModelVersion":
    """A version that has what the service wants of one. Raises NotMovedError."""
    version = _version(client, name, number)
    said = f"{name} version {number}"
    if not re.fullmatch("[0-9a-f]{64}", version.tags.get(SHA256, "")):
        raise NotMovedError(f"{said}: its tag {SHA256} is no SHA-256")
    if version.tags.get(SCHEMA) != fingerprint():
        raise NotMovedError(f"{said}: its measurements are not those of this project ({SCHEMA})")
    if SELF_TEST not in _files_beside(client, version):
        raise NotMovedError(f"{said}: {BESIDE_FOLDER}/{SELF_TEST} is not among its files")
    return version


def _judged(version: "ModelVersion") -> None:
    """Raises NotMovedError unless the version passed its gate."""
    said = f"{version.name} version {version.version}"
    try:
        verdict: Any = json.loads(version.tags[VERDICT])
        passed = verdict["verdict"]
    except (KeyError, TypeError, ValueError):
        raise NotMovedError(
            f"{said} has no verdict of the gate: `make register` finishes what was interrupted"
        ) from None
    if passed != PASSED:
        reasons = "; ".join(map(str, verdict.get("reasons", [])))
        raise NotMovedError(f"{said} was refused by the gate: {reasons}")


def _version(client: "MlflowClient", name: str, number: str) -> "ModelVersion":
    if not re.fullmatch("[1-9][0-9]{0,8}", number):
        raise NotMovedError(f"{number!r} is no version: expected a whole number from 1 on")
    found = client.search_model_versions(f"name = '{name}'")
    numbers = sorted(int(version.version) for version in found)
    for version in found:
        if str(version.version) == number:
            return version
    there = ", ".join(map(str, numbers)) or "none"
    raise NotMovedError(f"{name} has no version {number}; there are: {there}")


def _files_beside(client: "MlflowClient", version: "ModelVersion") -> set[str]:
    from mlflow.artifacts import list_artifacts

    uri = client.get_model_version_download_uri(version.name, version.version)
    files = list_artifacts(artifact_uri=f"{uri}/{BESIDE_FOLDER}", tracking_uri=client.tracking_uri)
    return {file.path.rpartition("/")[2] for file in files}
