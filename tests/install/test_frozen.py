"""Released migrations never change: databases have run them. tests/golden/migrations.sha256 holds their hashes.

UBP_GOLDEN=write adds what is missing there; a line that is there it never changes.
"""

import hashlib
import os
from pathlib import Path

import pytest

from ubp_sql.install.resources import directory

LISTING = Path(__file__).parents[1] / "golden" / "migrations.sha256"


def hashes(folder: Path) -> dict[str, str]:
    """File name to hash of its bytes, white space and all."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.py"))}


def problems(folder: Path, listing: Path) -> list[str]:
    """What differs between the migrations in `folder` and the listing."""
    found = hashes(folder)
    frozen = {name: digest for digest, name in map(str.split, listing.read_text().splitlines())}
    return (
        [f"{name} is not in the listing" for name in found.keys() - frozen.keys()]
        + [f"{name} is gone" for name in frozen.keys() - found.keys()]
        + [f"{name} has changed" for name in found.keys() & frozen.keys() if found[name] != frozen[name]]
    )


def add_missing(folder: Path, listing: Path) -> None:
    """Appends the migrations that the listing does not name."""
    lines = listing.read_text().splitlines() if listing.exists() else []
    known = {line.split()[1] for line in lines}
    lines += [f"{digest}  {name}" for name, digest in hashes(folder).items() if name not in known]
    listing.write_text("\n".join(lines) + "\n")


def test_migrations_are_frozen() -> None:
    folder = directory("migrations") / "versions"
    if os.environ.get("UBP_GOLDEN") == "write":
        add_missing(folder, LISTING)
    assert problems(folder, LISTING) == []


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, Path]:
    """Two migrations and their listing."""
    folder, listing = tmp_path / "versions", tmp_path / "migrations.sha256"
    folder.mkdir()
    for name in ("0001_a.py", "0002_b.py"):
        (folder / name).write_text("revision = 1\n")
    add_missing(folder, listing)
    assert problems(folder, listing) == []
    return folder, listing


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("0001_a.py", b"revision = 2\n", "0001_a.py has changed"),
        ("0001_a.py", b"revision = 1\r\n", "0001_a.py has changed"),
        ("0002_b.py", b"revision = 1\n\n", "0002_b.py has changed"),
        ("0002_b.py", None, "0002_b.py is gone"),
        ("0003_c.py", b"revision = 3\n", "0003_c.py is not in the listing"),
    ],
)
def test_the_guard_sees(copy: tuple[Path, Path], name: str, content: bytes | None, problem: str) -> None:
    folder, listing = copy
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert problems(folder, listing) == [problem]
    before = listing.read_text()
    add_missing(folder, listing)
    assert listing.read_text().startswith(before), "writing adds, and changes nothing that is there"
