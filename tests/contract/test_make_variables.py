"""What Make's targets are given is text: it arrives as it is, and neither Make nor a shell runs it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.stubs import program
from tests.private import not_private

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
# Each would leave a file `owned` behind where something runs it, or not arrive as it is.
TEXTS = [
    '1"; touch owned; "',
    "1'; touch owned; '",
    "; touch owned;",
    "& touch owned",
    "1\ntouch owned",
    "`touch owned`",
    "$(touch owned)",
    "$(shell touch owned)",
    "${shell touch owned}",
    "$HOME $$ $@ $(VERSION)",
    "--rollback",
    "a#b \\",
    "57 *  ü ",
]
TARGETS = {  # target and variable: others that are given, and the arguments of Python
    ("promote", "VERSION"): ({}, ["heart.registry.promote", "--", "{}"]),
    ("challenger", "VERSION"): ({}, ["heart.registry.promote", "--challenger={}"]),
    ("retrain", "TRIGGER"): ({}, ["monitoring.retraining.run", "--trigger={}"]),
    ("erase", "ID"): ({}, ["monitoring.retraining.erase", "--", "{}"]),
    ("erase", "IDS"): ({}, ["monitoring.retraining.erase", "--ids={}", "--"]),
    ("retrain", "FORCE"): ({}, ["monitoring.retraining.run", "--force"]),
    ("score", "IN"): ({"OUT": "o"}, ["serve.batch", "--", "{}", "o"]),
    ("score", "OUT"): ({"IN": "i"}, ["serve.batch", "--", "i", "{}"]),
    **{
        ("simulate", name): ({}, ["monitoring.simulate", f"--{name.lower()}={{}}"])
        for name in ("ROWS", "SHIFT", "RATE", "OUTCOMES", "URL")
    },
}


@pytest.fixture
def clone(clone: Path) -> Path:
    """A Python that writes down its arguments."""
    program(clone / ".venv/bin/python", 'printf "%s\\0" "$@" > given')
    return clone


def make(
    target: str, clone: Path, environment: dict[str, str], *given: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", target, *given], cwd=clone, env=environment | settings, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip


def arguments(clone: Path) -> list[str]:
    return (clone / "given").read_text().split("\0")[:-1]


def everywhere(name: str, text: str) -> list[tuple[list[str], dict[str, str]]]:
    """A variable on the command line, and one of the environment."""
    return [([f"{name}={text}"], {}), ([], {name: text})]


@pytest.mark.parametrize(("target", "name"), TARGETS)
def test_make_variables_are_passed_unchanged(
    target: str, name: str, clone: Path, environment: dict[str, str]
) -> None:
    others, expected = TARGETS[target, name]
    for text in TEXTS:
        for given, settings in everywhere(name, text):
            done = make(target, clone, environment, *given, **settings, **others)

            assert done.returncode == 0, done.stdout
            words = [word.format(text) for word in expected]
            result = arguments(clone)
            assert [word for word in result if word in words] == words, text
            assert result[0] == "-m"
            assert not (clone / "owned").exists(), text


def test_further_arguments_are_split_at_spaces_and_nothing_else(
    clone: Path, environment: dict[str, str]
) -> None:
    for text in TEXTS:
        for given, settings in everywhere("ARGS", text):
            done = make("score", clone, environment, *given, **settings, IN="i", OUT="o")

            assert done.returncode == 0, done.stdout
            assert arguments(clone) == ["-m", "serve.batch", *text.split(), "--", "i", "o"]
            assert not (clone / "owned").exists(), text


def test_the_python_of_the_environment_may_lie_anywhere(
    clone: Path, environment: dict[str, str]
) -> None:
    (clone / ".venv/bin/python").unlink()
    path = clone / 'a folder"; touch owned; "' / "python"
    program(path, 'printf "%s\\0" "$@" > given')

    done = make(".venv/bin/python", clone, environment, f"PYTHON={path}")

    assert done.returncode == 0, done.stdout
    assert arguments(clone) == ["-m", "venv", ".venv"]
    assert not (clone / "owned").exists()


def test_target_without_its_variables_does_nothing(
    clone: Path, environment: dict[str, str]
) -> None:
    for target, missing in (("promote", "VERSION"), ("score", "IN")):
        done = make(target, clone, environment)

        assert done.returncode != 0
        assert missing in done.stdout
    assert not (clone / "given").exists()
    assert make("challenger", clone, environment).returncode == 0
    assert arguments(clone) == ["-m", "heart.registry.promote", "--no-challenger"]


def test_every_variable_that_may_be_given_is_read_from_the_environment() -> None:
    (given,) = re.findall(r"^GIVEN := (.*)$", MAKEFILE, re.MULTILINE)
    recipes = "".join(re.findall(r"^\t.*\n", MAKEFILE, re.MULTILINE))

    assert set(re.findall(r"^(\w+) \?=", MAKEFILE, re.MULTILINE)) <= set(given.split())
    assert not set(re.findall(r"(?<!\$)\$[({](\w+)[)}]", recipes)) & set(given.split())
    assert set(re.findall(r"\$\$\{?([A-Z_]+)", recipes)) <= set(given.split())


# Backups: the scripts, with a stand-in for the stack

COMPOSE = """
case "$*" in
  *pg_dump*) printf "dump of %s" "${*##* }" ;;
  *buckets.py\\ save*) printf "the buckets" ;;
  *pg_restore*|*buckets.py\\ load*) cat >> restored ;;
esac
"""


@pytest.fixture
def stack(clone: Path) -> Path:
    """A clone whose stack is a program of its own."""
    for name in ("backup.sh", "restore.sh"):
        (clone / "deploy").mkdir(exist_ok=True)
        shutil.copy(ROOT / "deploy" / name, clone / "deploy" / name)
    program(clone / "compose", COMPOSE)
    return clone


@pytest.mark.parametrize("folder", [*TEXTS, "-rf", "a/b c/"])
def test_a_backup_is_in_the_folder_that_is_named_and_comes_back_from_it(
    folder: str, stack: Path, environment: dict[str, str]
) -> None:
    settings = {"COMPOSE": "./compose -f *", "CDPATH": "deploy:/"}

    done = make("backup", stack, environment, f"BACKUP={folder}", **settings)

    assert done.returncode == 0, done.stdout
    names = {"heart.dump", "mlflow.dump", "buckets.tar", "SHA256SUMS"}
    assert {path.name for path in (stack / folder).iterdir()} == names
    assert not_private(stack / folder) == {}
    assert make("backup", stack, environment, f"BACKUP={folder}", **settings).returncode != 0

    done = make("restore", stack, environment, f"BACKUP={folder}", **settings)

    assert done.returncode == 0, done.stdout
    assert (stack / "restored").read_text() == "dump of heartdump of mlflowthe buckets"
    assert not (stack / "owned").exists()


def test_a_backup_without_a_name_is_named_by_its_time(
    stack: Path, environment: dict[str, str]
) -> None:
    assert make("backup", stack, environment, COMPOSE="./compose").returncode == 0

    (folder,) = (stack / "backups").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d{6}Z", folder.name)
    assert make("restore", stack, environment, COMPOSE="./compose").returncode != 0
