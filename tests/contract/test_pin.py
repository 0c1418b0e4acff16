"""`make pin`: digests beside the tags of images. Docker is a stand-in that knows digests."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.pin_images import FILES, IMAGE
from tests.contract.stubs import program

ROOT = Path(__file__).parents[2]
IMAGES = {
    "python:3.11-bookworm",
    "python:3.11-slim-bookworm",
    "moby/buildkit:v0.32.2",
    "docker/buildkit-syft-scanner:1.12.0",
    *re.findall(r" image: ([a-z/]+:v?[\d.]+)", (ROOT / FILES[0]).read_text()),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that name images, the script, and a docker that prints the digest of its image's name."""
    for name in (*FILES, "deploy/pin_images.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    answer = 'printf "%s" "$4" | sha256sum | sed "s/^/sha256:/; s/ .*//"'
    program(tmp_path / "bin/docker", f'[ "$4" = "$MISSING" ] && exit 1\n{answer}')
    return tmp_path


def pin(project: Path, missing: str = "") -> subprocess.CompletedProcess[str]:
    path = f"{project}/bin{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, project / "deploy/pin_images.py"], env={"PATH": path, "MISSING": missing},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def texts(project: Path) -> str:
    return "".join((project / name).read_text() for name in FILES)


def pinned(image: str) -> str:
    return f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


@pytest.mark.parametrize("file", FILES)
def test_every_image_is_named_by_its_digest(file: str) -> None:
    images = list(IMAGE.finditer((ROOT / file).read_text()))

    assert images
    assert all(image["digest"] for image in images)


def test_every_image_that_is_not_built_here_gets_its_digest(project: Path) -> None:
    done = pin(project)

    assert done.returncode == 0, done.stderr
    assert {pinned(image) for image in IMAGES} == set(
        re.findall(r"\b[a-z][a-z./-]+:[\w.-]+@sha256:[0-9a-f]{64}", texts(project))
    )
    for image in IMAGES:
        assert image not in texts(project).replace(pinned(image), "")
    assert texts(project).count("heart-serve:${TAG:-latest}") == 1


def test_an_old_digest_is_replaced(project: Path) -> None:
    pin(project)
    after = texts(project)
    compose = project / FILES[0]
    compose.write_text(re.sub("@sha256:.{8}", "@sha256:00000000", compose.read_text()))

    pin(project)

    assert texts(project) == after


def test_nothing_changes_if_one_digest_is_unknown(project: Path) -> None:
    before = texts(project)

    done = pin(project, missing=max(IMAGES))

    assert done.returncode != 0
    assert max(IMAGES) in done.stderr
    assert texts(project) == before
