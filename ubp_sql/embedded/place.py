"""Where a cluster lives: its directory, the home of the server's files, the socket directory, and who may own them."""

import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ubp_sql.embedded.account import Account
from ubp_sql.embedded.marker import PROBE, register, registered_for, user_name
from ubp_sql.errors import ClusterError

SOCKET_NAME_LENGTH = len("/.s.PGSQL.65535")
SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un.sun_path, less the closing zero
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")


def choose_home(directory: Path, account: Account) -> Path:
    """`directory` if the server's account can work in it, else one outside, named by the directory's hash."""
    if _can_host(directory, account):
        return directory
    base = Path("/var/lib/ubp-sql") if os.geteuid() == 0 else Path.home() / ".local" / "share" / "ubp-sql"
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    if base.stat().st_uid != os.geteuid():
        raise ClusterError(f"{base} belongs to {user_name(base.stat().st_uid)}, not to you")
    home = next(home for home in _outside_homes(base, directory) if registered_for(home) in (None, directory))
    home.mkdir(mode=0o755, exist_ok=True)
    home.chmod(0o711)
    register(home, directory)
    if not _can_host(home, account):
        raise ClusterError(f"the account {account.name} can work neither in {directory} nor in {home}")
    return home


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
