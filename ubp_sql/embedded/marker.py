"""The marker file that makes a directory a cluster of ours, what it remembers, and the lock beside it."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path

from ubp_sql.errors import ClusterError

MARKER = "cluster.json"
PROBE = "probe-"
FORMAT = 1


@dataclasses.dataclass
class Record:
    """What the marker file remembers between starts; its presence makes a directory ours.

    `home` is where the server's files are if the server cannot reach the directory; empty: in the directory itself,
    which may be moved.
    `initialised` is set when initdb has come to its end, so that half a data directory is known as such.
    """

    home: str
    account: str
    port: int
    socket_dir: str
    version: str = ""
    initialised: bool = False
    python_path: list[str] = dataclasses.field(default_factory=list)
    format: int = FORMAT

    @property
    def major(self) -> str | None:
        """The data's major version: another one cannot read it."""
        return self.version.partition(".")[0] or None


def read_record(directory: Path) -> Record | None:
    """The marker of `directory`; None where there is nothing yet. Refuses what is not ours (ClusterError, UB013).

    A copy of a directory whose home is elsewhere counts as nothing: that home is the original's.
    """
    try:
        owner = directory.stat().st_uid
        entries = {entry.name for entry in directory.iterdir() if not entry.name.startswith(PROBE)}
    except FileNotFoundError:
        return None
    except (NotADirectoryError, PermissionError) as error:
        raise ClusterError(f"{directory} cannot be used as a cluster directory: {error.strerror}") from error
    if owner != os.geteuid():
        name = user_name(owner)
        raise ClusterError(f"{directory} belongs to {name}", hint=f"run as {name}, or choose another --dir")
    if MARKER not in entries:
        if entries - {"lock", f"{MARKER}.new"}:
            raise ClusterError(
                f"{directory} is not an embedded cluster and not empty", hint="choose another --dir, or empty it"
            )
        return None
    try:
        record = Record(**json.loads((directory / MARKER).read_text()))
    except (ValueError, TypeError, OSError) as error:
        raise ClusterError(
            f"{directory / MARKER} is damaged: {error}", hint="remove the directory to begin anew"
        ) from error
    if record.format != FORMAT:
        raise ClusterError(
            f"{directory} was made by another version of ubp_sql (format {record.format})",
            hint="use that version, or remove the directory",
        )
    if record.home:
        registered = registered_for(Path(record.home))
        if registered not in (None, directory) and (registered / MARKER).exists():
            return None
    return record


def write_record(directory: Path, record: Record) -> None:
    """Whole or not at all, also when killed half-way."""
    fresh = directory / f"{MARKER}.new"
    fresh.write_text(json.dumps(dataclasses.asdict(record), indent=2) + "\n")
    fresh.replace(directory / MARKER)


@contextlib.contextmanager
def locked(directory: Path, timeout: float = 180) -> Iterator[None]:
    """One start or stop of a cluster at a time; the lock vanishes with its process."""
    try:
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise ClusterError(f"cannot write in {directory}: {error.strerror}") from error
    with lock as file:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(f"another process has held {file.name} for {timeout:.0f} s") from None
                time.sleep(0.1)
        yield


def register(home: Path, directory: Path) -> None:
    """Notes whose home it is: a checkout may be moved, and another one be made in its old place."""
    (home / "directory").write_text(f"{directory}\n")


def registered_for(home: Path) -> Path | None:
    """The directory that an outside home belongs to."""
    try:
        return Path((home / "directory").read_text().rstrip("\n"))
    except OSError:
        return None


def user_name(uid: int) -> str:
    """Of an operating-system account, for messages."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
