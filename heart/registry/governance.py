"""`make governance`: model cards, checklists, data set and lineage of the registered version (docs/governance.md).

Stage register logs the same documents with each version, in the folder `governance` of its run.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from heart import files
from heart.addresses import check_url
from heart.errors import UserError, explain, run_main
from heart.governance import cards, checklists, croissant, lineage
from heart.governance.answers import STAGES, Documents, common
from heart.params import Registered
from heart.registry import publishing as registry
from heart.registry.aliases import SHA256, VERDICT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

OUT = Path("reports/governance")
ARTIFACTS = "governance"
PARAMS, LOCK = Path("params.yaml"), Path("dvc.lock")
VALIDATION = Path("reports/validation.json")  # of monitoring/validate.py
TABLES = {"train": files.TRAIN, "test": files.TEST}
LINEAGE = "openlineage.ndjson"


def of_stages() -> dict[str, Any]:
    """The figures of the stages before `register`, their parameters, and what is known of the patients."""
    figures = {
        stage: json.loads((files.METRICS / f"{stage}.json").read_text())
        for stage in STAGES
        if stage != "register"
    }
    params = yaml.safe_load(PARAMS.read_text())
    return {**common(files.md5(files.RAW)), **figures, "params": params}


def of_version(version: "ModelVersion") -> dict[str, str]:
    """What the registry knows of a version."""
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return {
        "name": version.name,
        "number": str(version.version),
        "created": created.date().isoformat(),
        "created_at": created.isoformat(timespec="seconds"),
        "model_sha256": version.tags[SHA256],
        **{tag: version.tags.get(tag, "") for tag in ("git_commit", "train_md5", "test_md5")},
    }


def render(documents: Documents, card: str, events: list[lineage.Event]) -> dict[str, bytes]:
    """Each document by the name of its file; `card` is the text of the version's model card."""
    content = {
        "chai_model_card.xml": cards.chai(documents),
        "hugging_face.md": cards.hugging_face(documents, card),
        "croissant.json": croissant.patients(documents, TABLES),
    }
    for table, name in checklists.NAMES.items():
        items = checklists.checklist(table, documents)
        content[f"{name}.md"] = checklists.as_markdown(items)
        content[f"{name}.json"] = checklists.as_json(items)
    return content | ({LINEAGE: lineage.lines(events)} if events else {})


def events_of(version: Mapping[str, str]) -> list[lineage.Event]:
    """The lineage of a version; none, with a note, where dvc.lock is missing or of another model."""
    try:
        return lineage.events(yaml.safe_load(LOCK.read_text()), version)
    except (FileNotFoundError, UserError) as error:
        note = f"no OpenLineage events of version {version['number']}: {explain(error)}"
        print(f"note: {note}", file=sys.stderr)
        return []


def log(client: "MlflowClient", version: "ModelVersion", documents: Documents) -> None:
    """Log the documents of a version in its run, and send its lineage if OPENLINEAGE_URL is set."""
    known = of_version(version)
    events = events_of(known)
    content = render({**documents, "version": known}, version.description or "", events)
    with TemporaryDirectory() as folder:
        write(Path(folder), content)
        client.log_artifacts(version.run_id, folder, ARTIFACTS)
    try:
        send(events)
    except UserError as error:  # which is no reason to register no model
        print(f"note: {error}", file=sys.stderr)


def send(events: list[lineage.Event]) -> None:
    """Send events if OPENLINEAGE_URL is set. Raises UserError."""
    if url := os.environ.get(lineage.URL):
        try:
            check_url(url)
        except ValueError as error:
            raise UserError(f"{lineage.URL}: {error}") from None
        lineage.send(events)


def write(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write each document to its file."""
    for name, data in content.items():
        with files.replacing(folder / name) as part:
            part.write_bytes(data)


def registered(client: "MlflowClient", name: str) -> "ModelVersion":
    """The newest version with the model of this checkout. Raises UserError."""
    sha256 = hashlib.sha256(files.ONNX.read_bytes()).hexdigest()
    versions = [
        version
        for version in client.search_model_versions(f"name = '{name}'")
        if version.tags.get(SHA256) == sha256 and VERDICT in version.tags
    ]
    if not versions:
        raise UserError(f"no version of {name} has the model {files.ONNX}: run `make register`")
    return max(versions, key=lambda version: int(version.version))


def external_validation(version: Mapping[str, str]) -> dict[str, Any]:
    """The report of `make validate`, if it is of this version."""
    if not VALIDATION.exists():
        return {}
    report = json.loads(VALIDATION.read_text())
    same = (report["model"], report["version"]) == (version["name"], version["number"])
    return {"validation": report} if same else {}


def main() -> None:
    documents = of_stages()
    version = registered(registry.connect(), Registered.load().model_name)
    known = of_version(version)
    documents |= {"version": known, "register": json.loads(version.tags[VERDICT])}
    events = events_of(known)
    content = render(documents | external_validation(known), version.description or "", events)
    write(OUT, content)
    for name in content:
        print("->", OUT / name)
    send(events)


if __name__ == "__main__":
    run_main(main)
