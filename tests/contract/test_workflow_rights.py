"""What GitHub's workflows may do: permissions, and where secrets are set."""

import re

import pytest

from tests.contract.test_workflows import ROOT, WORKFLOWS, script, steps
from tests.fixtures.security import SecurityFigure

PERMISSIONS: dict[str, dict[str, str]] = {
    "ci": {"contents": "read"},
    "docs": {"contents": "read"},
    "audit": {"contents": "read"},
    "retrain": {"contents": "write", "pull-requests": "write"},
    "images": {"contents": "read", "packages": "write"},
    "space": {"contents": "read"},
}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_permissions_are_minimal(workflow: str) -> None:
    content = WORKFLOWS[workflow]
    needed = PERMISSIONS[workflow]

    # What may write is granted to one job, not to those that are added later.
    assert content["permissions"] == ({} if "permissions" in str(content["jobs"]) else needed)
    assert {"write"} & set(needed.values()) == set() or content["permissions"] == {}
    for job in content["jobs"].values():
        assert job.get("permissions", content["permissions"]) == needed


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_checkout_leaves_no_token_behind(workflow: str) -> None:
    for step in steps(workflow):
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


MLFLOW = {f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD")}
STORAGE = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
# Each step with secrets or a token, and no other step has any.
SECRETS_OF_STEPS = {
    ("retrain", "Fetch data and models"): STORAGE,
    ("retrain", "Retrain"): MLFLOW | {"HEART_LOG_URL"},
    ("retrain", "Push data and models"): STORAGE,
    ("retrain", "Open a pull request"): {"github.token"},
    ("images", "Enter the registry"): {"github.token"},
    ("space", "Write the folder"): MLFLOW,
    ("space", "Upload it"): {"HF_TOKEN"},
}


def secrets(part: object) -> set[str]:
    """The secrets, and the token, that a part of a workflow names."""
    text = str(part)
    token = {"github.token"} if re.search(r"github\.token|secrets\.GITHUB_TOKEN", text) else set()
    return {*re.findall(r"secrets\.(\w+)", text), *token}


@pytest.mark.security
def test_secrets_are_set_only_in_the_step_that_needs_them(security_figure: SecurityFigure) -> None:
    given = {}
    for workflow, content in WORKFLOWS.items():
        assert secrets({key: value for key, value in content.items() if key != "jobs"}) == set()
        for job in content["jobs"].values():
            assert secrets({key: value for key, value in job.items() if key != "steps"}) == set()
            for step in job["steps"]:
                assert secrets({k: v for k, v in step.items() if k != "env"}) == set()
                if named := secrets(step.get("env")):
                    given[workflow, step["name"]] = named

    assert given == SECRETS_OF_STEPS
    security_figure(
        "GitHub workflows: secrets set for a whole job or workflow, or for an action", "0", "0"
    )


def test_nothing_is_installed_in_a_step_with_secrets() -> None:
    needs = dict(re.findall(r"(?m)^([a-z-]+): ([^#\n]*)##", (ROOT / "Makefile").read_text()))
    for workflow, name in SECRETS_OF_STEPS:
        names = [step.get("name") for step in steps(workflow)]
        before = " ".join(script(n, workflow) for n in names[: names.index(name)] if n == "Install")
        for target in re.findall(r"\bmake ([a-z-]+)", script(name, workflow)):
            assert set(needs[target].split()) <= set(before.split()), (workflow, name)
