"""OpenLineage events: which stage made which file from which, as dvc.lock says, down to the registered version.

`make governance` writes one event a line, and sends them if OPENLINEAGE_URL is set. One stage of dvc.lock is one
completed run; its id follows from its content, so that sending it twice is no second run.

https://openlineage.io/spec/2-0-2/OpenLineage.json
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from heart import files
from heart.errors import UserError, first_line, without_password

URL = "OPENLINEAGE_URL"
PRODUCER = "https://pypi.org/project/dvc/"
SPEC = "https://openlineage.io/spec"
DATA = ("data", "models", "metrics", "plots")  # folders; what else a stage reads is code
READ = (
    *(files.TRAIN, files.TEST, files.OUT_OF_FOLD),
    *(files.ONNX, files.ERROR, files.REFERENCE),
)  # by stage register

Event = dict[str, Any]


def events(lock: Mapping[str, Any], version: Mapping[str, str]) -> list[Event]:
    """One event for each stage of dvc.lock, and the last for the registration of the version that it led to.

    Raises UserError if dvc.lock is of another model.
    """
    stages = {name: stage for name, stage in lock["stages"].items() if name != "register"}
    hashes = {out["path"]: out for stage in stages.values() for out in stage.get("outs", ())}
    locked = hashes.get(str(files.ONNX), {}).get("md5")
    if locked != (actual := files.md5(files.ONNX)):
        raise UserError(
            f"dvc.lock has {files.ONNX} with the MD5 hash {locked}, the file has {actual}: run `make repro`"
        )
    made = [_of_stage(name, stage, version) for name, stage in stages.items()]
    inputs = [_file(hashes[str(path)]) for path in READ if str(path) in hashes]
    return [*made, _event("register", version, inputs, [_model(version)], {})]


def _of_stage(name: str, stage: Mapping[str, Any], version: Mapping[str, str]) -> Event:
    inputs, outputs = (
        [_file(entry) for entry in stage.get(kind, ()) if entry["path"].split("/")[0] in DATA]
        for kind in ("deps", "outs")
    )
    return _event(name, version, inputs, outputs, stage.get("params", {}).get("params.yaml", {}))


def _event(
    stage: str,
    version: Mapping[str, str],
    inputs: list[Event],
    outputs: list[Event],
    parameters: Mapping[str, Any],
) -> Event:
    content = json.dumps([stage, inputs, outputs, parameters], sort_keys=True)
    space = version["name"]
    run_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{space}/{content}"))
    listed = [
        {"key": f"{section}.{key}", "value": json.dumps(value)}
        for section, values in parameters.items()
        for key, value in values.items()
    ]
    facets = _facet("ExecutionParametersRunFacet", "1-0-0", parameters=listed) if listed else None
    kind = {"processingType": "BATCH", "integration": "DVC", "jobType": "STAGE"}
    return {
        "eventType": "COMPLETE",
        "eventTime": version["created_at"],
        "producer": PRODUCER,
        "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run_id, "facets": {"executionParameters": facets} if facets else {}},
        "job": {
            "namespace": space,
            "name": stage,
            "facets": {"jobType": _facet("JobTypeJobFacet", "2-0-4", **kind)},
        },
        "inputs": [entry | {"namespace": space} for entry in inputs],
        "outputs": [entry | {"namespace": space} for entry in outputs],
    }


def _file(entry: Mapping[str, Any]) -> Event:
    """A data set of dvc.lock; its version is the hash by which DVC finds it."""
    return {"name": entry["path"], "facets": {"version": _version(entry.get("md5", ""))}}


def _model(version: Mapping[str, str]) -> Event:
    tags = [
        {"key": key, "value": version[key], "source": "registry"}
        for key in ("model_sha256", "git_commit")
        if version.get(key)
    ]
    facets = {
        "version": _version(version["number"]),
        "tags": _facet("TagsDatasetFacet", "1-0-0", tags=tags),
    }
    return {"name": f"models:/{version['name']}", "facets": facets}


def _version(text: str) -> Event:
    return _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=text)


def _facet(name: str, revision: str, **content: Any) -> Event:
    place = f"{SPEC}/facets/{revision}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": place, **content}


def lines(content: Iterable[Event]) -> bytes:
    """A file with one event a line."""
    return "".join(json.dumps(event) + "\n" for event in content).encode()


def send(content: Iterable[Event]) -> None:
    """Send events to OPENLINEAGE_URL. Raises UserError."""
    try:
        from openlineage.client import OpenLineageClient
        from openlineage.client.event_v2 import (
            InputDataset,
            Job,
            OutputDataset,
            Run,
            RunEvent,
            RunState,
        )
    except ImportError:
        raise UserError(
            f"{URL} needs the package openlineage-python: python requirements/install.py lineage"
        ) from None
    # Not the address of the git remote, which may hold a password.
    config = {"facets": {"source_code_location": {"disabled": True}}}
    try:
        client = OpenLineageClient(config=config)
    except ValueError:  # whose message quotes the text, with a password if it has one
        raise UserError(f"{URL} is no URL: expected one such as http://marquez:5000") from None
    try:
        for event in deepcopy(list(content)):  # the library adds to what it is given
            client.emit(
                RunEvent(
                    eventTime=event["eventTime"],
                    eventType=RunState(event["eventType"]),
                    producer=event["producer"],
                    run=Run(**event["run"]),
                    job=Job(**event["job"]),
                    inputs=[InputDataset(**entry) for entry in event["inputs"]],
                    outputs=[OutputDataset(**entry) for entry in event["outputs"]],
                )
            )
    except (OSError, ValueError) as error:  # those of requests are OSError
        reason = without_password(f"{os.environ.get(URL)}: {first_line(error)}")
        raise UserError(f"not all events were sent to {URL} {reason}") from error
