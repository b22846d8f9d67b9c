"""The server's settings: moderate, for one person's machine; `alter system` overrides any of them."""

import os
from pathlib import Path

# Trust is safe here because nothing but the socket leads in: no TCP address is listened on, and the socket lies in a
# directory of mode 0700, so that only its owner (and root) can reach it. Peer authentication would be no stricter and
# would need a map line for each pair of operating-system user and database role; tests and demo change roles at will.
PG_HBA = (
    "# written at each start: only the owner of the socket's directory (and root) gets this far\nlocal all all trust\n"
)

# Nothing is durable; and rows are counted and cleared away when a test does it, not when a worker happens to come by.
FOR_TESTS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off"}
MINIMUM_SHM = 512 << 20


def configuration(*, port: int, socket_dir: Path, fast: bool) -> str:
    """Text of the main configuration file, which takes in initdb's own first.

    `fast` gives up durability and autovacuum: for tests only, whose cluster is thrown away.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    buffers = min(max(memory // 8, 128 << 20), 512 << 20)
    values = {
        "cluster_name": "ubp",
        "listen_addresses": "",
        "port": str(port),
        "unix_socket_directories": str(socket_dir),
        "max_connections": "60",
        "shared_buffers": _megabytes(buffers),
        "effective_cache_size": _megabytes(memory // 2),
        "work_mem": "32MB",
        "maintenance_work_mem": _megabytes(min(max(memory // 16, 64 << 20), 512 << 20)),
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "wal_compression": "on",
        "random_page_cost": "1.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "dynamic_shared_memory_type": _shared_memory(),
    }
    if fast:
        values |= FOR_TESTS
    lines = ["# Written at each start; keep your own settings with: alter system set name = value;"]
    lines.append("include_if_exists 'data/postgresql.conf'")
    lines += [f"{name} = '{_quoted(value)}'" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _megabytes(size: int) -> str:
    return f"{size >> 20}MB"


def _shared_memory() -> str:
    """Containers often have 64 MB of /dev/shm or none, and a parallel query then fails: use files of the cluster."""
    try:
        space = os.statvfs("/dev/shm")  # noqa: S108  (not a temporary file: where POSIX shared memory lives)
    except OSError:
        return "mmap"
    writable = os.stat("/dev/shm").st_mode & 0o1777 == 0o1777  # noqa: S108
    return "posix" if writable and space.f_bavail * space.f_frsize >= MINIMUM_SHM else "mmap"
