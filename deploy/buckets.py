"""The objects of the stack's buckets as a tar file: `save` writes it to standard output, `load` reads it.

Endpoint and keys are boto3's: AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
"""

import io
import sys
import tarfile
from typing import IO, Any

BUCKETS = ("dvc", "mlflow")


def save(s3: Any, out: IO[bytes]) -> int:
    """Write every object, named BUCKET/KEY. Returns their number."""
    count = 0
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for bucket in BUCKETS:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for listed in page.get("Contents", []):
                    body = s3.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read()
                    entry = tarfile.TarInfo(f"{bucket}/{listed['Key']}")
                    entry.size = len(body)
                    archive.addfile(entry, io.BytesIO(body))
                    count += 1
    return count


def load(s3: Any, source: IO[bytes]) -> int:
    """Put every object back where it was; others stay. Returns their number."""
    count = 0
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for entry in archive:
            bucket, _, key = entry.name.partition("/")
            content = archive.extractfile(entry)
            if bucket not in BUCKETS or content is None:
                raise SystemExit(f"error: {entry.name}: expected an object of {', '.join(BUCKETS)}")
            s3.put_object(Bucket=bucket, Key=key, Body=content.read())
            count += 1
    return count


def main() -> None:
    import boto3

    actions = {
        "save": lambda s3: save(s3, sys.stdout.buffer),
        "load": lambda s3: load(s3, sys.stdin.buffer),
    }
    if sys.argv[1:] not in [[name] for name in actions]:
        raise SystemExit("usage: buckets.py save > FILE, or load < FILE")
    count = actions[sys.argv[1]](boto3.client("s3"))
    print(f"{count} objects", file=sys.stderr)


if __name__ == "__main__":
    main()
