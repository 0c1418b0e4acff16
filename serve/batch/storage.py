"""Files on disk and in S3, by one interface."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from serve.batch.errors import ScoreError


@dataclass(frozen=True)
class Place:
    """A path in a file system; it may be sent to another process."""

    system: fs.FileSystem
    path: str

    @staticmethod
    def of(text: str) -> "Place":
        """The place that a path or an s3:// address means. Raises ScoreError."""
        if "://" not in text:
            return Place(fs.LocalFileSystem(), str(Path(text).absolute()))
        try:
            return Place(*fs.FileSystem.from_uri(text.rstrip("/")))
        except (pa.ArrowInvalid, OSError) as error:
            raise ScoreError(f"{text}: {error}, expected a path or s3://BUCKET/KEY") from None

    @property
    def is_local(self) -> bool:
        """Whether a folder can be renamed as a whole."""
        return isinstance(self.system, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        """The end of the name, such as .csv, in lower case."""
        return PurePosixPath(self.path).suffix.lower()

    def __truediv__(self, name: str) -> "Place":
        return Place(self.system, f"{self.path}/{name}")

    def beside(self, ending: str) -> "Place":
        """The place of the same name with something after it."""
        return Place(self.system, self.path + ending)

    def __str__(self) -> str:
        return self.path if self.is_local else f"{self.system.type_name}://{self.path}"

    def info(self) -> Any:
        """Its type, size and time of change."""
        with _naming(self):
            return self.system.get_file_info(self.path)

    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return bool(self.info().type != fs.FileType.NotFound)

    def walk(self) -> list[Any]:
        """The infos of all files below a folder, by path; none if it is not there."""
        with _naming(self):
            entries = self.system.get_file_info(
                fs.FileSelector(self.path, recursive=True, allow_not_found=True)
            )
        return sorted(
            (i for i in entries if i.type == fs.FileType.File), key=lambda info: info.path
        )

    def read(self) -> bytes:
        """All that a file holds."""
        with _naming(self), self.system.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """The file, to read anywhere in it; an OSError in the block names this file."""
        with _naming(self), self.system.open_input_file(self.path) as file:
            yield file

    def make_folder(self) -> None:
        """Make it a folder of its owner's alone, if the file system has any."""
        if self.is_local:
            with _naming(self):
                Path(self.path).mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """A stream to write the file, which may be half there after a failure.

        On disk it is for its owner alone: it says something of patients.
        """
        with _naming(self):
            if self.is_local:
                Path(self.path).touch(mode=0o600)
            with self.system.open_output_stream(self.path) as stream:
                yield stream

    def write_whole(self, content: bytes) -> None:
        """Write a small file that is there as a whole or not at all."""
        place = self.beside(".part") if self.is_local else self
        with place.writing() as stream:
            stream.write(content)
        if place is not self:
            place.move(self)

    def move(self, target: "Place") -> None:
        """Rename it; on disk at once, whatever it is."""
        with _naming(self):
            self.system.move(self.path, target.path)

    def delete(self) -> None:
        """Delete a folder and all in it."""
        with _naming(self):
            self.system.delete_dir(self.path)


@contextlib.contextmanager
def _naming(place: Place) -> Iterator[None]:
    """Errors of the file system name the place."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScoreError(f"{place}: {reason}") from error
