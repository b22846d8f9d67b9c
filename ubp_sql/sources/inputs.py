"""What a command names, as files: a file, a folder's files in name order, the standard input."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ubp_sql.errors import SourceError
from ubp_sql.sources import packed
from ubp_sql.sources.load_map import LoadMap

STDIN = "-"
SPOOLED = 1 << 20
# Endings of names, without those of compression.
ENDINGS = {
    "csv": (".csv", ".txt"),
    "tsv": (".tsv", ".tab", ".txt"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}


@dataclass(frozen=True)
class Input:
    """A file to load, and its name in messages and records."""

    path: Path
    shown: str


@dataclass(frozen=True)
class Inputs:
    """Files to load, and what of the folders among them is left out."""

    files: list[Input]
    left_out: list[str]


def find_inputs(names: list[Path], load_map: LoadMap) -> Inputs:
    """Files as named, folders as the files right in them whose ending is one of the map's format.

    Raises SourceError for a folder without such a file.
    """
    files: list[Input] = []
    left_out: list[str] = []
    for name in names:
        if not name.is_dir():
            files.append(Input(name, str(name)))
            continue
        try:
            entries = sorted(entry for entry in name.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {error.strerror}", "check its rights") from error
        fitting = [entry for entry in entries if entry.is_file() and _fits(entry, load_map)]
        if not fitting:
            wanted = ", ".join(ENDINGS[load_map.format])
            raise SourceError(
                f"{name} holds no file of format {load_map.format}",
                f"a folder's files are told by their ending: {wanted}",
            )
        files += [Input(entry, str(entry)) for entry in fitting]
        left_out += [str(entry) for entry in entries if entry not in fitting]
    return Inputs(files, left_out)


def _fits(path: Path, load_map: LoadMap) -> bool:
    stem = path.name.lower()
    for ending in packed.ENDINGS:
        stem = stem.removesuffix(ending)
    return stem.endswith(ENDINGS[load_map.format])


@contextlib.contextmanager
def spooled(stream: BinaryIO) -> Iterator[Input]:
    """The standard input as a file: what it holds is known by its hash before a row is read, as with every file."""
    with tempfile.NamedTemporaryFile(prefix="ubp-load-") as file:
        try:
            while chunk := stream.read(SPOOLED):
                file.write(chunk)
            file.flush()
        except OSError as error:
            raise SourceError(
                f"the standard input cannot be kept in {tempfile.gettempdir()}: {error.strerror}; nothing was loaded",
                "TMPDIR names another directory",
            ) from error
        yield Input(Path(file.name), STDIN)
