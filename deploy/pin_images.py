"""`make pin`: write beside the tag of each image the digest that it has now, in the files that name images.

A tag may be moved to another image; a digest may not. Needs Docker with buildx and the network. Prints what changed.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORKFLOWS = (".github/workflows/ci.yml", ".github/workflows/images.yml")
FILES = ("docker-compose.yml", "Dockerfile", ".env.example", *WORKFLOWS)
# `image: NAME:TAG`, `container: NAME:TAG`, `..._IMAGE: NAME:TAG`, `PYTHON_IMAGE=NAME:TAG` and
# `${PYTHON_IMAGE:-NAME:TAG}`; not our own, which have a variable as their tag.
IMAGE = re.compile(
    r"(?P<before>image: |container: |[A-Z]_IMAGE: |PYTHON_IMAGE=|PYTHON_IMAGE:-)(?P<image>[a-z0-9./-]+:[\w.-]+)"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest(image: str) -> str:
    """The digest of the index of an image for all platforms. Ends with an error if there is none."""
    command = [
        "docker",
        "buildx",
        "imagetools",
        "inspect",
        image,
        "--format",
        "{{.Manifest.Digest}}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit(
            "error: docker was not found; `make pin` asks it for the digests"
        ) from None
    result = done.stdout.strip()
    if done.returncode or not DIGEST.fullmatch(result):
        reason = (done.stderr.strip() or result or "no output").splitlines()[-1]
        raise SystemExit(f"error: {image}: expected a digest, got: {reason}; nothing was changed")
    return result


def main() -> None:
    texts = {ROOT / name: (ROOT / name).read_text() for name in FILES}
    images = sorted({m["image"] for text in texts.values() for m in IMAGE.finditer(text)})
    digests = {image: digest(image) for image in images}
    for path, text in texts.items():
        pinned = IMAGE.sub(lambda m: f"{m['before']}{m['image']}@{digests[m['image']]}", text)
        if pinned != text:
            path.write_text(pinned)
            print(f"{path.relative_to(ROOT)}: pinned")
    for image in images:
        print(f"{image} is {digests[image]}")


if __name__ == "__main__":
    main()
