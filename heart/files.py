"""Where files lie, and writing them whole or not at all."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heart.errors import UserError
from heart.schema import NAMES, OUTCOME, encode

if TYPE_CHECKING:
    import pandas as pd

DATA = Path("data")
RAW = Path("data/raw/heart.csv")
PRODUCTION = Path("data/production/labelled.csv")
POINTER = Path("data/production/labelled.csv.dvc")  # which version of it belongs to this commit
PREPARED = Path("data/prepared.csv")
TRAIN = Path("data/train.csv")
TEST = Path("data/test.csv")
SYNTHETIC = Path("data/synthetic.csv")
MERGED = Path("data/merged.csv")
ONNX = Path("models/model.onnx")
ERROR = Path("models/standard_error.onnx")
OUT_OF_FOLD = Path("data/out_of_fold.csv")
REFERENCE = Path("models/reference.json")
METRICS = Path("metrics")
PLOTS = Path("plots")
LOCK = Path("requirements/lock.txt")
CACHE = Path(".dvc/cache")  # of DVC: every version of every output
PRIVATE, PUBLIC = 0o600, 0o666  # modes of new files, of which the umask may take more away

ALL = "all"  # the fold of rows from the generator that was fitted on all training rows
# The column `source`: which file a row is from; no patient stands behind a synthetic one.
RAW_SOURCE, PRODUCTION_SOURCE, SYNTHETIC_SOURCE = "raw", "production", "synthetic"
KEPT = "kept_"  # what the name of a column starts with that was kept (prepare.keep)


@contextlib.contextmanager
def replacing(path: Path, mode: int = PUBLIC) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` once the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # of a stage that was killed, and perhaps of another mode
    try:
        part.touch(mode, exist_ok=False)
        yield part
        part.replace(path)
    except OSError as error:
        # Some writers do not say which file a full disk has no space for.
        if error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def input_files() -> list[Path]:
    """The files to read. Raises UserError when labelled answers are known but not here."""
    if PRODUCTION.exists():
        return [RAW, PRODUCTION]
    if POINTER.exists():
        raise UserError(f"{POINTER} is here but {PRODUCTION} is not: run `dvc pull` first")
    return [RAW]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write sorted, indented JSON; floats keep six significant digits, so that equal inputs give equal files."""
    with replacing(path) as part:
        part.write_text(json.dumps(_rounded(content), indent=2, sort_keys=True) + "\n")


def write_metrics(stage: str, content: Mapping[str, Any]) -> None:
    """Write metrics/STAGE.json."""
    write_json(METRICS / f"{stage}.json", content)


def write_table(path: Path, table: "pd.DataFrame", mode: int = PRIVATE) -> None:
    """Write a CSV file with a heading and no index; a missing value is an empty cell."""
    with replacing(path, mode) as part:
        table.to_csv(part, index=False, lineterminator="\n")


def close_folders() -> None:
    """Let only the owner into the folders of patients: DVC gives what it puts there modes of its own."""
    for folder in (DATA, CACHE):
        if folder.parent.is_dir():
            folder.mkdir(exist_ok=True)
            with contextlib.suppress(PermissionError):  # another's folder, who decides
                folder.chmod(0o700)


def read_table(path: Path) -> "pd.DataFrame":
    """Read a CSV file that a stage wrote: every cell as text, a missing value as an empty text."""
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


def encoded(table: "pd.DataFrame") -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Encoded rows [n, 13] and outcomes 0 or 1 [n] of a table as stages write it."""
    rows = encode({name: table[name].tolist() for name in NAMES})
    return rows, (table[OUTCOME.name] == "presence").to_numpy().astype(np.int64)


def md5(path: Path) -> str:
    """The hash of a file by which DVC knows it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
