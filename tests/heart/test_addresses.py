"""An address that cannot be one is an error before anything connects to it."""

from pathlib import Path

import pytest

from heart.addresses import check_url, server_of
from heart.sqlite_path import absolute, registry_uri

HERE = Path("/here")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "https://mlflow.example.org:5000/path?query=1",
        "http://[::1]:5000",
        "http://me:p@ss/w#rd@mlflow_1:5000/",
        "postgresql+psycopg://me:p/w@db:5432/heart",
        "postgresql:///heart?host=/run/postgresql",
        "databricks://profile",
        "https://dagshub.com/me/heart.mlflow",
    ],
)
def test_an_address_of_a_server_is_accepted(url: str) -> None:
    check_url(url)
    assert registry_uri(url, HERE) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://", "host"),
        ("https:///path", "host"),
        ("http://:5000", "host"),
        ("http://127.0.0.1:99999", "65535"),
        ("http://mlflow:0", "65535"),
        ("http://mlflow:port/", "65535"),
        ("postgresql://db:5432x/heart", "65535"),
        ("http://ml flow:5000", "spaces"),
        ("http://[::1:5000", "HOST"),
    ],
)
def test_an_impossible_address_is_an_error_that_names_it(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as error:
        registry_uri(url, HERE)

    assert url in str(error.value)


def test_the_error_does_not_quote_a_password() -> None:
    with pytest.raises(ValueError, match="65535") as error:
        absolute("postgresql+psycopg://me:s3cret@db:99999/heart", HERE)

    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("password", ["s3cret", "p@s3cret", "s3/cret", "s3:cret", "s3#cret@"])
def test_the_server_of_a_url_is_without_its_password(password: str) -> None:
    assert server_of(f"http://me:{password}@mlflow:5000/x") == "http://mlflow:5000"
    assert server_of("http://mlflow:5000/x") == "http://mlflow:5000/x"


@pytest.mark.parametrize("url", ["sqlite://registry/mlflow.db", "sqlite:registry.db", "sqlite://"])
def test_a_sqlite_url_needs_three_slashes(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        registry_uri(url, HERE)
