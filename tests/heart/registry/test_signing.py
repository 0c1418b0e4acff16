"""A service with a public key serves only versions that were signed with its private key."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heart.registry import signing
from heart.registry.aliases import THRESHOLD
from heart.registry.cache import Cache, seal
from heart.registry.errors import VersionRejected
from serve.model_manager import ModelManager
from tests.fixtures.security import SecurityFigure
from tests.heart.registry.registry_fixture import HASHED, NAME, Shelf, version_of

COST = 0.05  # seconds that a signature may add to loading a version
pytestmark = [pytest.mark.security, pytest.mark.filterwarnings("ignore:::mlflow")]


@pytest.fixture
def signed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Both versions are signed with a key in the test's folder, and version 1 is the champion."""
    monkeypatch.setattr(signing, "DEVELOPMENT_KEY", shelf.folder / "key.pem")
    monkeypatch.delenv(signing.KEY, raising=False)
    for number in ("1", "2"):
        signing.sign(shelf.client, NAME, number)
    return shelf


def public(shelf: Shelf) -> Path:
    return shelf.folder / "key.pub.pem"


def manager(shelf: Shelf, **changes: object) -> ModelManager:
    keys = {"signing_public_keys": (public(shelf),)}
    return ModelManager(shelf.settings(**(keys | changes)))


def swap(shelf: Shelf) -> None:
    """Version 2 with the signature of version 1."""
    tags = shelf.client.get_model_version(NAME, "1").tags
    shelf.client.set_model_version_tag(NAME, "2", signing.SIGNATURE, tags[signing.SIGNATURE])


def strip(shelf: Shelf) -> None:
    shelf.client.delete_model_version_tag(NAME, "2", signing.SIGNATURE)


def other_threshold(shelf: Shelf) -> None:
    shelf.client.set_model_version_tag(NAME, "2", THRESHOLD, "0.9")


def other_card(shelf: Shelf) -> None:
    shelf.client.set_model_version_tag(NAME, "2", signing.CARD_SHA256, "0" * 64)


def nonsense(shelf: Shelf) -> None:
    shelf.client.set_model_version_tag(NAME, "2", signing.SIGNATURE, "not base64 é")


def wrong_key(shelf: Shelf) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing, "DEVELOPMENT_KEY", shelf.folder / "other.pem")
        signing.sign(shelf.client, NAME, "2")


def other_hash(tag: str) -> Callable[[Shelf], None]:
    """A file is replaced by one whose hash the tag has."""
    return lambda shelf: shelf.client.set_model_version_tag(NAME, "2", tag, "0" * 64)


ATTACKS: dict[str, Callable[[Shelf], None]] = {
    "the signature of another version": swap,
    "no signature": strip,
    "another threshold": other_threshold,
    "another model card": other_card,
    "a signature that is no base64": nonsense,
    "a signature with another key": wrong_key,
    **{f"another hash of {Path(file).name}": other_hash(tag) for file, tag in HASHED.items()},
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_unsigned_or_altered_version_is_rejected_and_the_old_one_stays(
    signed: Shelf, attack: str, security_figure: SecurityFigure
) -> None:
    champion = manager(signed)
    champion.refresh()
    ATTACKS[attack](signed)

    signed.promote("2")
    champion.refresh()

    assert version_of(champion) == "1"
    assert champion.rejections == {"signature": 1}
    assert champion.state().notes
    security_figure(f"a version with {attack}", "rejected", "the old version answers")


def test_a_signed_version_is_served(signed: Shelf) -> None:
    champion = manager(signed)
    signed.promote("2")

    champion.refresh()

    assert version_of(champion) == "2"


def test_a_signature_costs_little_of_loading_a_version(
    signed: Shelf, security_figure: SecurityFigure
) -> None:
    tags = signed.client.get_model_version(NAME, "1").tags
    signatures = signing.Signatures((public(signed),))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        signatures.require(NAME, "1", tags)
        seconds.append(time.perf_counter() - start)

    assert min(seconds) < COST
    security_figure(
        "loading a signed version instead of an unsigned one",
        f"{1000 * min(seconds):.1g} ms more",
        f"{1000 * COST:.0f} ms",
    )


def test_an_older_version_than_allowed_is_rejected(
    signed: Shelf, security_figure: SecurityFigure
) -> None:
    signed.promote("2")
    champion = manager(signed, minimum_version=2)
    champion.refresh()

    signed.promote("1")
    champion.refresh()

    assert version_of(champion) == "2"
    assert champion.rejections == {"too_old": 1}
    security_figure("the alias moved to an older version", "rejected", "HEART_MINIMUM_VERSION")


def test_with_the_old_and_the_new_key_versions_of_both_are_served(signed: Shelf) -> None:
    wrong_key(signed)
    keys = (public(signed), signed.folder / "other.pub.pem")
    champion = manager(signed, signing_public_keys=keys)
    champion.refresh()
    assert version_of(champion) == "1"

    signed.promote("2")
    champion.refresh()

    assert version_of(champion) == "2"


def test_a_cache_whose_threshold_was_changed_is_rejected_even_with_new_sums(
    signed: Shelf,
) -> None:
    settings = signed.settings(signing_public_keys=(public(signed),))
    champion = manager(signed)
    champion.refresh()
    (folder,) = (settings.cache_dir / NAME).iterdir()
    card = json.loads((folder / "model.json").read_text())
    card["tags"][THRESHOLD] = "0.9"
    (folder / "model.json").write_text(json.dumps(card))
    seal(folder)
    assert champion.current
    Cache(settings.cache_dir, settings.model).point_at(champion.current, None)

    cache = Cache(
        settings.cache_dir,
        settings.model,
        signatures=signing.Signatures(settings.signing_public_keys, settings.minimum_version),
    )
    with pytest.raises(VersionRejected) as rejection:
        cache.last()

    assert rejection.value.kind == "signature"


def test_the_development_key_is_private_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "registry" / "key.pem"
    monkeypatch.setattr(signing, "DEVELOPMENT_KEY", path)
    monkeypatch.delenv(signing.KEY, raising=False)

    first, second = signing.private_key(), signing.private_key()

    assert first.private_numbers() == second.private_numbers()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_development_key_is_complete_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    monkeypatch.setattr(signing, "DEVELOPMENT_KEY", path)
    monkeypatch.delenv(signing.KEY, raising=False)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(os, "link", interrupt)
        with pytest.raises(KeyboardInterrupt):
            signing.private_key()
    assert not list(tmp_path.iterdir())

    with monkeypatch.context() as interrupted:
        interrupted.setattr(signing, "_write_public", interrupt)
        with pytest.raises(KeyboardInterrupt):
            signing.private_key()
    assert [file.name for file in tmp_path.iterdir()] == ["key.pem"]

    signing.private_key()
    assert (tmp_path / "key.pub.pem").read_bytes().startswith(b"-----BEGIN PUBLIC KEY")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
