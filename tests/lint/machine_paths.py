"""No file names a directory of the machine it was written on: a checkout, its neighbours, somebody's home."""

import re
import subprocess
from pathlib import Path

# Directories that every machine has, and names that stand for any.
EVERYWHERE = {
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "media",
    "mnt",
    "opt",
    "proc",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
}
EVERYWHERE |= {"var", "path", "some", "where", "nowhere", "does", "src", "docker-entrypoint-initdb.d"}
# An absolute path of two parts or more, where one begins: not in the middle of a path, an address or a sum.
BEGINS = r"(?:^|(?<=[\s`(=:,\[])|(?<=[\s(=:,\[{][\"']))"
PATH = re.compile(BEGINS + r"/([a-z][\w.-]*)(?:/[\w.-]+)+|(?<![\w.~}>)*/-])/(root)\b", re.MULTILINE)
# What speaks of root's home on the reader's machine, or of that of a bare root it makes.
ROOT_HOMES = ("docs/", "docker/", "scripts/bare_root.sh", "tests/fresh_machine.sh", "tests/lint/", "ubp_sql/embedded/")
TEXT = {".py", ".sql", ".md", ".toml", ".yaml", ".yml", ".sh", ".txt", ".cfg", ".ini", ".mako", ".json", ""}


def of_text(file: str, text: str) -> list[str]:
    """Lines of one file that name such a directory."""
    found = []
    for match in PATH.finditer(text):
        first = match[1] or match[2]
        if first not in EVERYWHERE and not (first == "root" and file.startswith(ROOT_HOMES)):
            found.append(f"{file}:{text.count(chr(10), 0, match.start()) + 1}: names {match[0].strip()}")
    return found


def breaches(root: Path) -> list[str]:
    """Over what git tracks and what it would track."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    found = []
    for name in names:
        path = root / name
        if path.suffix in TEXT and path.is_file():
            found += of_text(name, path.read_text(errors="replace"))
    return found
