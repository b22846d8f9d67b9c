"""Where a cluster lives: its directory, the home of the server's files, the socket directory, and who may own them."""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import pwd
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ubp_sql.embedded.account import Account
from ubp_sql.errors import ClusterError

MARKER = "cluster.json"
PROBE = "probe-"
FORMAT = 1
SOCKET_NAME_LENGTH = len("/.s.PGSQL.65535")
SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un.sun_path, less the closing zero
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")


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
        name = _user_name(owner)
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
        registered = _registered(Path(record.home))
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


def choose_home(directory: Path, account: Account) -> Path:
    """`directory` if the server's account can work in it, else one outside, named by the directory's hash."""
    if _can_host(directory, account):
        return directory
    base = Path("/var/lib/ubp-sql") if os.geteuid() == 0 else Path.home() / ".local" / "share" / "ubp-sql"
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    if base.stat().st_uid != os.geteuid():
        raise ClusterError(f"{base} belongs to {_user_name(base.stat().st_uid)}, not to you")
    home = next(home for home in _outside_homes(base, directory) if _registered(home) in (None, directory))
    home.mkdir(mode=0o755, exist_ok=True)
    home.chmod(0o711)
    register(home, directory)
    if not _can_host(home, account):
        raise ClusterError(f"the account {account.name} can work neither in {directory} nor in {home}")
    return home


def register(home: Path, directory: Path) -> None:
    """Notes whose home it is: a checkout may be moved, and another one be made in its old place."""
    (home / "directory").write_text(f"{directory}\n")


def choose_socket_dir(home: Path, account: Account) -> Path:
    """`home`/run, or a short directory when a socket's path would be too long or needs quoting in lists and DSNs."""
    run = home / "run"
    if len(os.fsencode(run)) + SOCKET_NAME_LENGTH <= SOCKET_PATH_LIMIT and PLAIN_PATH.fullmatch(str(run)):
        return run
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    name = f"ubp-{account.uid}-{short_hash(home)}"
    if os.geteuid() != 0 and len(runtime) < 40 and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        return Path(runtime) / name
    return Path("/tmp") / name  # noqa: S108  (private: made with mode 0700, owner and mode checked at each start)


def private_directory(path: Path, account: Account) -> None:
    """Makes `path`, or checks it: a real directory, of `account`, closed to everybody else.

    The check matters in shared places such as /tmp, where others can make the name first.
    """
    made = True
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        made = False
    if made and os.geteuid() == 0:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise ClusterError(
            f"{path} must be a directory of {account.name} with mode 0700, and is not",
            hint=f"look at it (ls -ld {path}) and remove it",
        )


def remove_tree(path: Path) -> None:
    """Removes files of the server's account, too; a link is removed, not followed."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def short_hash(path: Path) -> str:
    """Names a directory in twelve characters."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _can_host(directory: Path, account: Account) -> bool:
    """Tries it: some file systems (network, Windows mounts) know no owners or modes, and PostgreSQL insists on both."""
    try:
        probe = Path(tempfile.mkdtemp(prefix=PROBE, dir=directory))
    except OSError as error:
        raise ClusterError(f"cannot write in {directory}: {error.strerror}") from error
    try:
        if os.geteuid() == 0:
            os.chown(probe, account.uid, account.gid)
        found = probe.stat()
        fits = found.st_uid == account.uid and stat.S_IMODE(found.st_mode) == 0o700
        return fits and account.can_enter(probe)
    except OSError:
        return False
    finally:
        probe.rmdir()


def _outside_homes(base: Path, directory: Path) -> Iterator[Path]:
    name = short_hash(directory)
    yield base / name
    yield from (base / f"{name}-{number}" for number in itertools.count(2))


def _registered(home: Path) -> Path | None:
    try:
        return Path((home / "directory").read_text().rstrip("\n"))
    except OSError:
        return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
