"""What a backup of the buckets holds, and that it comes back."""

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from deploy.buckets import BUCKETS, load, save


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")  # objects in a page of a listing
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        for bucket in BUCKETS:
            client.create_bucket(Bucket=bucket)
        yield client


def objects(s3: Any) -> dict[str, bytes]:
    return {
        f"{bucket}/{listed['Key']}": s3.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read()
        for bucket in BUCKETS
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for listed in page.get("Contents", [])
    }


def test_every_object_comes_back_where_it_was(s3: Any) -> None:
    for number in range(25):  # three pages
        s3.put_object(Bucket="dvc", Key=f"files/md5/{number:04x}", Body=bytes([number % 256]))
    s3.put_object(Bucket="mlflow", Key="1/a b/ü.json", Body=b"")
    before = objects(s3)
    archive = io.BytesIO()

    assert save(s3, archive) == 26
    for name in before:
        bucket, _, key = name.partition("/")
        s3.delete_object(Bucket=bucket, Key=key)
    assert objects(s3) == {}
    archive.seek(0)

    assert load(s3, archive) == 26
    assert objects(s3) == before


def test_an_object_of_another_bucket_is_refused(s3: Any) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("other/key"))
    archive.seek(0)

    with pytest.raises(SystemExit, match="other/key: expected an object of dvc, mlflow"):
        load(s3, archive)
