"""Which Host headers are read how, and which are allowed."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from heart.http.hosts import AllowedHosts, HostNames, parse_authority


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"localhost", ("localhost", None, False)),
        (b"LocalHost:8000", ("localhost", 8000, False)),
        (b"heart.example.org.:443", ("heart.example.org", 443, False)),
        (b"my_app:8000", ("my_app", 8000, False)),
        (b"localhost:", ("localhost", None, False)),
        (b"127.0.0.1:8000", ("127.0.0.1", 8000, True)),
        (b"[::1]", ("::1", None, True)),
        (b"[0:0:0:0:0:0:0:1]:8000", ("::1", 8000, True)),
        (b"[2001:DB8::1]:80", ("2001:db8::1", 80, True)),
        (b"127.1", ("127.1", None, False)),
    ],
)
def test_a_host_is_read_with_its_port(value: bytes, expected: tuple[Any, ...]) -> None:
    assert parse_authority(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"", b" ", b":8000", b"localhost:port", b"localhost:99999", b"a, b", b"a b", b"a@localhost",
        b"localhost/", b"http://localhost", b"::1", b"[::1", b"[localhost]", b"[127.0.0.1]x",
        b"localhost..", b".localhost", b"caf\xc3\xa9", b"a\n", b"a" * 300,
    ],
)  # fmt: skip
def test_invalid_host_is_none(value: bytes) -> None:
    assert parse_authority(value) is None


@pytest.mark.parametrize(
    ("names", "host", "allowed"),
    [
        ([], b"localhost:8000", True),
        ([], b"LOCALHOST.", True),
        ([], b"127.0.0.1", True),
        ([], b"[::1]:8000", True),
        ([], b"10.1.2.3:8000", True),  # as a pod is called by its probe and by Prometheus
        ([], b"evil.example", False),
        ([], b"localhost.evil.example", False),
        ([], b"2130706433", False),  # an address only for some, and none writes it so
        (["heart.example.org"], b"Heart.Example.Org:443", True),
        (["Heart.Example.org."], b"heart.example.org", True),
        (["heart.example.org"], b"localhost", True),
        (["heart.example.org"], b"a.heart.example.org", False),
        (["heart.example.org"], b"heartxexample.org", False),
        (["*.example.org"], b"heart.example.org", True),
        (["*.example.org"], b"a.b.example.org", True),
        (["*.example.org"], b"example.org", False),
        (["*.example.org"], b"evilexample.org", False),
        (["*"], b"evil.example", True),
    ],
)
def test_names_are_allowed_by_the_setting_and_addresses_always(
    names: list[str], host: bytes, allowed: bool
) -> None:
    authority = parse_authority(host)

    assert authority is not None
    assert (authority in AllowedHosts(names)) == allowed


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        (" heart.example.org, *.example.net,,app ", ("heart.example.org", "*.example.net", "app")),
        ("*", ("*",)),
        ("localhost,127.0.0.1,[::1]", ("localhost", "127.0.0.1", "[::1]")),
    ],
)
def test_a_setting_is_a_list_of_names(text: str, names: tuple[str, ...]) -> None:
    assert TypeAdapter(HostNames).validate_python(text) == names


@pytest.mark.parametrize(
    "wrong", ["http://localhost", "localhost:8000", "a/b", "a b", "*.", "*example.org", "a.*", "ä"]
)
def test_a_name_with_anything_else_is_rejected_by_value(wrong: str) -> None:
    with pytest.raises(ValidationError, match="is not a host: expected names") as error:
        TypeAdapter(HostNames).validate_python(f"localhost,{wrong}")

    assert repr(wrong) in str(error.value)
