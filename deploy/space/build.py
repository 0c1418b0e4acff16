"""`make space`: a folder for a Hugging Face Space, the service with one version of the model in it.

Its Dockerfile is the project's own up to the target `serve`. The version lies there as in the service's
cache: it is checked at every start, and no registry is asked.
"""

import re
import shutil
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from heart.errors import run_main
from heart.registry.cache import Cache
from heart.registry.errors import RegistryUnavailable, VersionRejected
from heart.registry.model_version import ONNX, Model
from heart.registry.resolver import Registry
from heart.registry.signing import Signatures
from heart.settings import read
from serve.settings import Settings

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
TARGET = Path("space")
MODEL = "model"  # the folder of the version, a cache of the service


def build(settings: Settings, target: Path) -> Model:
    """Write the folder, whole or not at all. Returns what was put in; ends with an error if it cannot."""
    # Beside the target, or it could not be renamed.
    with TemporaryDirectory(prefix="space-", suffix=".part", dir=target.parent) as work:
        made = Path(work) / "new"
        made.mkdir()
        model = baked(settings, made / MODEL)
        write_code(made)
        write_texts(made, settings, model)
        replace(target, made, Path(work) / "old")
    return model


def baked(settings: Settings, folder: Path) -> Model:
    """Fill a cache with the version that is served now. Ends with an error if there is none."""
    registry = Registry(settings.tracking_uri, settings.model)
    cache = Cache(
        folder,
        settings.model,
        signatures=Signatures(settings.signing_public_keys, settings.minimum_version),
    )
    try:
        model = cache.keep(registry.resolve(), registry)
    except RegistryUnavailable as error:
        raise SystemExit(
            f"error: {settings.model} gives no model ({error}): HEART_TRACKING_URI or "
            "MLFLOW_TRACKING_URI says where the registry is, `make repro` fills it"
        ) from None
    except VersionRejected as error:
        raise SystemExit(
            f"error: {settings.model} cannot be served ({error.kind}): {error}"
        ) from None
    cache.point_at(model, None)
    return model


def write_code(folder: Path) -> None:
    """Copy what the target `serve` is made of, without what the images leave out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    left_out = shutil.ignore_patterns(*(line[3:] for line in lines if line.startswith("**/")))
    for source in sources(dockerfile()):
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, folder / source, ignore=left_out)
        else:
            shutil.copy2(ROOT / source, folder / source)


def dockerfile() -> str:
    """The project's Dockerfile up to the target `serve`."""
    text = re.sub(r"(?m)\A(#.*\n)+", "", (ROOT / "Dockerfile").read_text())
    before, start, after = text.partition("\nFROM runtime AS serve\n")
    return before + start + after.partition("\nFROM ")[0].rstrip() + "\n"


def sources(dockerfile: str) -> list[str]:
    """What a Dockerfile copies from its folder."""
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", dockerfile)
    return [source for line in copied for source in line.split()]


def write_texts(folder: Path, settings: Settings, model: Model) -> None:
    """Write what makes a Space of the folder, with the version's hash in it."""
    cache = Cache(Path(MODEL), settings.model)
    known = {
        "reference": settings.model,
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "onnx": str(cache.folder(model.name, model.version, model.sha256) / ONNX),
    }
    texts = {name: Template((HERE / name).read_text()) for name in ("README.md", "Dockerfile.end")}
    (folder / "README.md").write_text(texts["README.md"].substitute(known))
    end = texts["Dockerfile.end"].substitute(known)
    (folder / "Dockerfile").write_text(f"{dockerfile()}\n{end}")
    # For who pushes by git: the hub takes no binary files otherwise.
    # And the hash of every other file of the model is known, line ends included.
    (folder / ".gitattributes").write_text(
        f"{MODEL}/** -text\n*.onnx filter=lfs diff=lfs merge=lfs -text\n"
    )
    shutil.copy2(HERE / "start.sh", folder / "start.sh")


def replace(target: Path, made: Path, old: Path) -> None:
    """Put a folder in the place of an earlier one; anything else there is not touched."""
    if target.exists():
        unexpected = {path.name for path in target.iterdir()} - {
            path.name for path in made.iterdir()
        }
        if unexpected:
            raise SystemExit(
                f"error: {target}/{min(unexpected)} is not of a Space that was written before: "
                f"move {target} away, it would be replaced"
            )
        target.rename(old)
    made.rename(target)


def main() -> None:
    model = build(read(Settings), TARGET)
    print(f"{TARGET}/ holds {model.name} version {model.version}, SHA-256 {model.sha256}")


if __name__ == "__main__":
    run_main(main)
