"""The address on which a program listens."""

import socket

import pytest

from heart.http.address import require_free


def test_a_port_in_use_is_an_error_that_names_the_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(SystemExit) as end:
            require_free("127.0.0.1", port, "HEART_")

    assert str(end.value.code).startswith(f"error: HEART_HOST=127.0.0.1, HEART_PORT={port}: ")


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(SystemExit, match=r"HEART_HOST=192\.0\.2\.1"):
        require_free("192.0.2.1", 0, "HEART_")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_free_address_stays_free(host: str) -> None:
    require_free(host, 0, "HEART_")
