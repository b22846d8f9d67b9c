"""Where the migrations and the function files lie: inside the wheel, or at the top of a checkout."""

from pathlib import Path

import ubp_sql
from ubp_sql.errors import InstallError


def directory(name: str) -> Path:
    """Folder `migrations` or `udfs` of this installation."""
    package = Path(ubp_sql.__file__).parent
    for candidate in (package / f"_{name}", package.parent / name):
        if candidate.is_dir():
            return candidate
    raise InstallError(f"the folder {name}/ is missing from this installation", "install the ubp_sql wheel again")


def function_files() -> list[Path]:
    """The udfs/ files in the order they are applied."""
    return sorted(directory("udfs").glob("[0-9]*.sql"))
