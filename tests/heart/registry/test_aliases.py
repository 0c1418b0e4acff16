"""Aliases move only to versions that can be served; an error gives the reason."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from heart.errors import run_main
from heart.registry import promote as command
from heart.registry.aliases import (
    SCHEMA,
    SELF_TEST,
    SHA256,
    THRESHOLD,
    VERDICT,
    AliasError,
    aliases,
    clear_challenger,
    promote,
    roll_back,
    set_challenger,
)
from tests.heart.registry.registry_fixture import NAME, ROOT, Shelf

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")

REJECTED = '{"verdict": "rejected", "reasons": ["recall at least 0.6: it is 0.5"]}'


@pytest.fixture
def three(shelf: Shelf) -> Any:
    """A registry whose champion is version 2, the previous one 1, and a version 3."""
    shelf.set_challenger()
    shelf.promote("2")
    shelf.client.set_registered_model_alias(NAME, "previous", "1")
    return shelf.client


def test_a_promoted_version_leaves_the_old_champion_as_the_previous(three: Any) -> None:
    promote(three, NAME, "3")
    assert aliases(three, NAME) == {"champion": "3", "previous": "2"}

    promote(three, NAME, "3")
    assert aliases(three, NAME) == {"champion": "3", "previous": "2"}

    promote(three, NAME, "2")
    assert aliases(three, NAME) == {"champion": "2", "previous": "3"}


def test_a_second_rollback_changes_nothing(three: Any) -> None:
    promote(three, NAME, "3")

    champions = [
        roll_back(three, NAME), roll_back(three, NAME), roll_back(three, NAME, champion="3")
    ]  # fmt: skip

    assert champions == ["2", "2", "2"]
    assert aliases(three, NAME) == {"champion": "2", "previous": "2"}
    promote(three, NAME, "3")
    assert aliases(three, NAME) == {"champion": "3", "previous": "2"}


def test_a_rollback_of_one_champion_does_not_replace_another(three: Any) -> None:
    promote(three, NAME, "3")

    with pytest.raises(AliasError, match="version 1 is no longer the champion"):
        roll_back(three, NAME, champion="1")

    assert aliases(three, NAME) == {"champion": "3", "previous": "2"}


def test_without_a_previous_version_a_rollback_is_an_error(three: Any) -> None:
    three.delete_registered_model_alias(NAME, "previous")

    for name in (NAME, "another"):
        with pytest.raises(AliasError, match=f"{name} has no version with the alias previous"):
            roll_back(three, name)


@pytest.mark.parametrize(
    ("tag", "text", "reason"),
    [
        (SHA256, "abc", "its tag model_sha256 is not a SHA-256"),
        (THRESHOLD, "2", r"its tag threshold is '2', expected a number in \(0, 1\)"),
        (SCHEMA, "another", "its measurements are not those of this project"),
        (VERDICT, None, "has no verdict of the promotion gate"),
        (VERDICT, "[]", "has no verdict of the promotion gate"),
        (VERDICT, REJECTED, "was rejected by the promotion gate: recall at least 0.6: it is 0.5"),
    ],
)
@pytest.mark.parametrize("alias", ["champion", "previous"])
def test_a_version_that_is_not_servable_or_was_rejected_gets_no_alias(
    three: Any, alias: str, tag: str, text: str | None, reason: str
) -> None:
    number = {"champion": "3", "previous": "1"}[alias]
    if text is None:
        three.delete_model_version_tag(NAME, number, tag)
    else:
        three.set_model_version_tag(NAME, number, tag, text)

    with pytest.raises(AliasError, match=f"^heart-disease version {number}.*{reason}"):
        promote(three, NAME, number) if alias == "champion" else roll_back(three, NAME)

    assert aliases(three, NAME) == {"champion": "2", "previous": "1"}


def test_a_version_without_its_self_test_gets_no_alias(shelf: Shelf, three: Any) -> None:
    bare = shelf.set_challenger(lambda folder: (folder / "extra_files" / SELF_TEST).unlink())
    shelf.promote("2")

    with pytest.raises(AliasError, match=r"extra_files/self_test\.json is not among its files"):
        promote(three, NAME, bare)

    assert aliases(three, NAME) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("number", ["", "0", "-1", "two", "1.0", "99999999999", "1 or 1", "newest"])
def test_an_invalid_version_number_is_rejected(three: Any, number: str) -> None:
    with pytest.raises(AliasError, match=f"^{number!r} is not a version"):
        promote(three, NAME, number)


def test_an_unknown_version_is_rejected_with_the_known_ones(three: Any) -> None:
    with pytest.raises(AliasError, match="has no version 7; known versions: 1, 2, 3"):
        promote(three, NAME, "7")
    with pytest.raises(AliasError, match="has no version 7; known versions: none"):
        promote(three, "another", "7")


def test_a_challenger_needs_no_verdict_but_must_be_servable(three: Any) -> None:
    three.set_model_version_tag(NAME, "3", VERDICT, REJECTED)

    set_challenger(three, NAME, "3")
    assert aliases(three, NAME) == {"champion": "2", "previous": "1", "challenger": "3"}

    clear_challenger(three, NAME)
    clear_challenger(three, NAME)
    assert aliases(three, NAME) == {"champion": "2", "previous": "1"}

    three.set_model_version_tag(NAME, "3", SHA256, "none")
    with pytest.raises(AliasError, match="not a SHA-256"):
        set_challenger(three, NAME, "3")


# The command


@pytest.fixture
def promote_command(
    shelf: Shelf, three: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run the command in a folder with the project's parameters; returns its output."""
    register = yaml.safe_load((ROOT / "params.yaml").read_text())["register"]
    (shelf.folder / "params.yaml").write_text(yaml.safe_dump({"register": register}))
    monkeypatch.chdir(shelf.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", three.tracking_uri)

    def run(*arguments: str) -> str:
        command.main(list(arguments))
        return capsys.readouterr().out

    return run


def test_the_command_moves_aliases_and_prints_them(promote_command: Callable[..., str]) -> None:
    assert promote_command("3") == "heart-disease: champion 3, previous 2\n"
    assert promote_command("3") == "heart-disease: champion 3, previous 2\n"
    assert promote_command("--rollback") == "heart-disease: champion 2, previous 2\n"
    assert (
        promote_command("--challenger", "3")
        == "heart-disease: champion 2, previous 2, challenger 3\n"
    )
    assert promote_command("--no-challenger") == "heart-disease: champion 2, previous 2\n"


def test_the_command_ends_with_the_reason(promote_command: Callable[..., str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_main(lambda: promote_command("7"))

    assert end.value.code == "error: heart-disease has no version 7; known versions: 1, 2, 3"


@pytest.mark.parametrize("arguments", [[], ["3", "--rollback"], ["--challenger"]])
def test_the_command_requires_exactly_one_option(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.options(arguments)

    assert end.value.code == 2
    assert "error" in capsys.readouterr().err
