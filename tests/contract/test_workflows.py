"""GitHub's workflows: valid, pinned, with few rights, and no shell line holds what came from outside."""

import os
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.stubs import program

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[Any, Any]] = {f.stem: yaml.safe_load(f.read_text()) for f in FILES}
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
PINNED = re.compile(r" *- uses: actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def steps(workflow: str) -> list[dict[str, Any]]:
    return [step for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"]]


def scripts(workflow: str) -> list[str]:
    return [step["run"] for step in steps(workflow) if "run" in step]


def script(name: str, workflow: str = "retrain") -> str:
    """The shell lines of a step, of the retraining if no other workflow is named."""
    (lines,) = (step["run"] for step in steps(workflow) if step.get("name") == name)
    return str(lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_fits_its_published_schema(path: Path, command: Callable[..., Any]) -> None:
    command(f"check-jsonschema --builtin-schema vendor.github-workflows {path}", ROOT)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("dependabot", "dependabot.yml"),
        ("github-issue-forms", "ISSUE_TEMPLATE/bug_report.yml"),
        ("github-issue-forms", "ISSUE_TEMPLATE/feature_request.yml"),
        ("github-issue-config", "ISSUE_TEMPLATE/config.yml"),
    ],
)
def test_a_file_of_github_fits_its_published_schema(
    schema: str, path: str, command: Callable[..., Any]
) -> None:
    command(f"check-jsonschema --builtin-schema vendor.{schema} .github/{path}", ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    uses = [line for line in path.read_text().splitlines() if "uses:" in line]

    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_shell_line_has_an_expression_in_it(workflow: str) -> None:
    assert scripts(workflow)
    assert [lines for lines in scripts(workflow) if "${{" in lines] == []


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_shell_lines_are_valid(workflow: str) -> None:
    for lines in scripts(workflow):
        subprocess.run(["bash", "-n", "-c", lines], check=True)


def test_one_retraining_at_a_time_on_the_alert_that_grafana_sends() -> None:
    retraining = WORKFLOWS["retrain"]
    on = retraining[True]  # YAML takes the bare word for a truth value
    templates = ROOT / "monitoring/grafana/provisioning/alerting/templates.yml"

    assert retraining["concurrency"] == {"group": "retrain", "cancel-in-progress": False}
    assert set(on) == {"repository_dispatch", "schedule", "workflow_dispatch"}
    # The other events are those of a test of the contact point, and of alerts without data.
    events = re.findall(r'\$event :?= "([a-z-]+)"', templates.read_text())
    assert on["repository_dispatch"]["types"] == ["drift-alert"]
    assert sorted(events) == ["drift-alert", "drift-unknown", "test"]


def test_targets_and_paths_exist() -> None:
    lines = "\n".join(line for workflow in WORKFLOWS for line in scripts(workflow))
    modules = re.findall(r"python -m ((?:heart|monitoring|serve|stages)\.[\w.]+)", lines)
    (added,) = re.findall(r"git add (.*)", lines)

    assert set(re.findall(r"\bmake ([a-z-]+)", lines)) <= TARGETS
    for path in (".ci/run", *added.split(), *(f"{m.replace('.', '/')}.py" for m in modules)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", []),
        ("PYSEC-2026-7 2027-01-31 only in a part that is not imported\n", ["--ignore-vuln=PYSEC-2026-7"]),
        ("# GHSA-a-b 2027-01-31 no\nCVE-2026-1 2027-01-31 x\nGHSA-c-d 2027-01-31 y\n",
         ["--ignore-vuln=CVE-2026-1", "--ignore-vuln=GHSA-c-d"]),
    ],
)  # fmt: skip
def test_audit_looks_up_the_locked_versions_but_for_what_is_ignored(
    lines: str, expected: list[str], clone: Path, command: Callable[..., Any]
) -> None:
    (clone / "requirements/tools").mkdir()
    (clone / "requirements/tools/lock.txt").touch()
    (clone / "requirements/tools/ignored_vulnerabilities.txt").write_text(lines)
    program(clone / ".venv-tools/bin/pip-audit", 'printf "%s\\n" "$@"')

    output = command("make audit", clone).stdout.split()

    assert output[:4] == [
        "--disable-pip", "--require-hashes", "--requirement", "requirements/hashes/packages.txt",
    ]  # fmt: skip
    assert output[4:] == expected


def test_ignored_vulnerabilities_have_a_day_and_a_reason() -> None:
    text = (ROOT / "requirements/tools/ignored_vulnerabilities.txt").read_text()

    for line in text.splitlines():
        if not line.startswith("#"):
            ignored = re.fullmatch(r"[A-Z]+-\S+ (\d{4}-\d\d-\d\d) .{10,}", line)
            assert ignored, line
            assert date.fromisoformat(ignored[1]) >= datetime.now(UTC).date(), line


def test_each_image_is_published_with_what_is_in_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (lines,) = (lines for lines in scripts("images") if "buildx build" in lines)

    targets = WORKFLOWS["images"]["jobs"]["publish"]["strategy"]["matrix"]["target"]
    assert all(f" AS {target}\n" in dockerfile for target in targets)
    # Buildx would take whatever its own tags name on that day, beside a token that writes packages.
    assert '--driver-opt "image=$BUILDKIT_IMAGE"' in lines
    assert '--sbom="generator=$SCANNER_IMAGE"' in lines
    (environment,) = (s["env"] for s in steps("images") if s.get("run") == lines)
    for name in ("BUILDKIT_IMAGE", "SCANNER_IMAGE"):
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", environment[name])
    assert set(re.findall(r"--build-arg (\w+)", lines)) <= set(re.findall(r"ARG (\w+)", dockerfile))


# The shell lines, run


def bash(
    lines: str, folder: Path, environment: dict[str, str], **variables: str
) -> subprocess.CompletedProcess[str]:
    """As GitHub runs them: ended by the first failure, in a pipe too."""
    (folder / "runner").mkdir(exist_ok=True)
    variables = environment | {"RUNNER_TEMP": str(folder / "runner"), "BASH_ENV": ""} | variables
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", lines],
        cwd=folder, env=variables, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip


SECRETS = {"HEART_LOG_URL": "sqlite:///log.db", "MLFLOW_TRACKING_URI": "http://mlflow"}


@pytest.mark.parametrize(
    "payload",
    ["$(touch owned)", "`touch owned`", '"; touch owned; "', "$(shell touch owned)", "--force", "é\n$x"],
)  # fmt: skip
def test_text_of_an_alert_is_only_an_argument(
    payload: str, clone: Path, environment: dict[str, str]
) -> None:
    trigger = f"repository_dispatch {payload}"

    done = bash(script("Retrain"), clone, environment, **SECRETS, TRIGGER=trigger, CODE="0")

    assert done.returncode == 0, done.stdout
    assert done.stdout == f"<-m><monitoring.retraining.run><--trigger={trigger}>"
    assert (clone / "runner" / "report.txt").read_text() == done.stdout
    assert not (clone / "owned").exists()


def test_too_few_outcomes_are_no_failure(clone: Path, environment: dict[str, str]) -> None:
    done = bash(script("Retrain"), clone, environment, **SECRETS, TRIGGER="x", CODE="75")

    assert done.returncode == 0, done.stdout


def test_force_is_passed_on_and_a_failure_fails(clone: Path, environment: dict[str, str]) -> None:
    done = bash(script("Retrain"), clone, environment, **SECRETS, TRIGGER="x", FORCE="1", CODE="3")

    assert done.returncode != 0
    assert "<--trigger=x><--force>" in done.stdout


@pytest.mark.parametrize("missing", SECRETS)
def test_without_a_secret_nothing_runs(
    missing: str, clone: Path, environment: dict[str, str]
) -> None:
    done = bash(script("Retrain"), clone, environment, **SECRETS | {missing: ""}, CODE="0")

    assert done.returncode != 0
    assert f"{missing}: set the secret" in done.stdout
    assert "monitoring.retraining.run" not in done.stdout


@pytest.mark.parametrize("changed", [True, False])
def test_changes_become_a_pull_request(
    changed: bool, tmp_path: Path, command: Callable[..., Any], environment: dict[str, str]
) -> None:
    clone = tmp_path / "clone"
    command(f"git init --quiet --bare {tmp_path}/origin", tmp_path)
    command(f"git clone --quiet {tmp_path}/origin {clone}", tmp_path)
    for folder in ("metrics", "data/production"):
        (clone / folder).mkdir(parents=True)
        (clone / folder / "old").touch()
    (clone / "dvc.lock").write_text("old")
    command("git add --all", clone)
    command("git commit --quiet -m before", clone)
    program(clone / ".venv/bin/python", "echo the text")
    program(tmp_path / "bin/gh", f'echo "$@" >> {tmp_path}/asked')
    if changed:
        (clone / "dvc.lock").write_text("new")

    done = bash(
        "\n".join(f"( {script(name)} )" for name in ("Describe what has changed", "Open a pull request")), clone,
        environment | {"PATH": f"{tmp_path}/bin{os.pathsep}{environment['PATH']}"},
        GITHUB_RUN_ID="7", GITHUB_RUN_ATTEMPT="1", GITHUB_REF_NAME="main",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    branches = command("git branch --list retrain-7-1", tmp_path / "origin").stdout
    assert bool(branches) == changed
    assert (tmp_path / "asked").exists() == changed
    if changed:
        assert (clone / "runner/pull_request.md").read_text() == "the text\n"
        assert "pr create --base main --head retrain-7-1" in (tmp_path / "asked").read_text()
        files = command("git show --name-only --format= retrain-7-1", tmp_path / "origin").stdout
        assert files.split() == ["dvc.lock"]


def test_only_steps_of_their_own_use_the_storage(clone: Path, environment: dict[str, str]) -> None:
    program(clone / ".venv/bin/dvc", 'echo "$@"')

    def dvc(step: str) -> list[str]:
        done = bash(
            script(step), clone, environment, REMOTE_URL="s3://x", REMOTE_ENDPOINT="http://y"
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()

    # Without a default remote the retraining pushes nothing, so it needs no keys of the storage.
    assert dvc("Fetch data and models") == [
        "remote add --local store s3://x",
        "remote modify --local store endpointurl http://y",
        "pull --remote store",
    ]
    assert dvc("Push data and models") == ["push --remote store"]
    names = [step.get("name") for step in steps("retrain")]
    order = ("Fetch data and models", "Retrain", "Push data and models", "Open a pull request")
    assert [name for name in names if name in order] == list(order)


SPACE = {"HF_TOKEN": "hf_secret", "HF_SPACE": "someone/heart"}


def test_the_folder_of_the_space_is_uploaded_with_the_token(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    program(tmp_path / ".venv/bin/hf", 'printf "<%s>" "$@"; printf "%s" "$HF_TOKEN" > token')

    done = bash(script("Upload it", "space"), tmp_path, environment, **SPACE, GITHUB_SHA="abc")

    assert done.returncode == 0, done.stdout
    assert done.stdout == (
        "<upload><someone/heart><space><.><--type><space><--delete><*><--commit-message><abc>"
    )
    assert (tmp_path / "token").read_text() == "hf_secret"


@pytest.mark.parametrize(
    ("step", "missing"),
    [("Write the folder", "MLFLOW_TRACKING_URI"), *(("Upload it", name) for name in SPACE)],
)
def test_missing_variable_stops_the_space_workflow(
    step: str, missing: str, clone: Path, environment: dict[str, str]
) -> None:
    program(clone / ".venv/bin/hf", "echo uploaded")
    given = {"MLFLOW_TRACKING_URI": "http://mlflow", **SPACE} | {missing: ""}

    done = bash(script(step, "space"), clone, environment, **given, GITHUB_SHA="abc", CODE="0")

    assert done.returncode != 0
    assert f"{missing}: set the " in done.stdout
    assert "uploaded" not in done.stdout
    assert "deploy.space" not in done.stdout


def test_the_folder_of_the_space_is_written_first(clone: Path, environment: dict[str, str]) -> None:
    lines = script("Write the folder", "space")

    done = bash(lines, clone, environment, MLFLOW_TRACKING_URI="http://mlflow", CODE="0")

    assert done.returncode == 0, done.stdout
    assert done.stdout == "<-m><deploy.space.build>"
    assert [step.get("name") for step in steps("space")][-2:] == ["Write the folder", "Upload it"]
