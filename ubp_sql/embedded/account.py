"""The operating-system account that the server runs as: one's own, or an unprivileged one when root starts it."""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ubp_sql.errors import ClusterError

# PostgreSQL refuses to run as root. `nobody` is the last resort: whatever else runs under it can reach the socket.
UNPRIVILEGED = ("postgres", "_postgres", "nobody")
NEUTRAL_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Account:
    """An operating-system account and how to start programs under it."""

    name: str
    uid: int
    gid: int

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path = Path("/"),
        environment: Mapping[str, str] = NEUTRAL_ENVIRONMENT,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program under this account with exactly `environment`; never raises on its exit status.

        Raises ClusterError (UB013) when the account cannot be taken or the program cannot be started.
        """
        drop: dict[str, Any] = {}
        if os.geteuid() == 0 and self.uid != 0:
            drop = {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            return subprocess.run(
                list(argv),
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                umask=0o077,
                timeout=timeout,
                check=False,
                **drop,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ClusterError(f"cannot run {argv[0]} as {self.name}: {error}") from error

    def can_enter(self, directory: Path) -> bool:
        """Asked by trying, because mode bits alone say nothing about ACLs, mounts and namespaces."""
        return self.run(["/usr/bin/test", "-x", str(directory)]).returncode == 0

    def can_read_tree(self, directory: Path) -> bool:
        """Whether each Python source below `directory` can be read under this account."""
        found = self.run(
            ["/usr/bin/find", str(directory), "(", "-type", "d", "-o", "-name", "*.py", ")", "!", "-readable"]
        )
        return found.returncode == 0 and not found.stdout


def server_account(recorded: str | None = None) -> Account:
    """The caller's own account; for root the `recorded` one of an existing cluster, or the first unprivileged one."""
    if os.geteuid() != 0:
        try:
            entry = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise ClusterError(
                f"user id {os.geteuid()} has no name on this machine, and PostgreSQL's initdb needs one",
                hint="add the user to /etc/passwd, or run as root",
            ) from None
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in (recorded,) if recorded else UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ClusterError(
        f"root cannot run PostgreSQL, and this machine has no account named {recorded or ' or '.join(UNPRIVILEGED)}",
        hint=f"useradd --system {recorded or UNPRIVILEGED[0]}",
    )
