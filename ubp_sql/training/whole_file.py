"""Files that appear whole or not at all, beside what was there before."""

import os
import shutil
from pathlib import Path

from ubp_sql.errors import BadInput


def check(to: Path, example: str) -> None:
    """Raises BadInput (UB003) where no file can be written: known before the work, not after it."""
    if to.is_dir():
        raise BadInput(f"{to} is a directory", f"for example {to / example}")
    if not to.parent.is_dir():
        raise BadInput(f"{to}: there is no directory {to.parent}", "make it first")
    if not os.access(to if _is_special(to) else to.resolve().parent, os.W_OK):
        raise BadInput(f"{to} cannot be written: permission denied", "look at the rights on its directory")


def write_whole(to: Path, data: bytes) -> None:
    """Writes a file under its last name in one step; a link stays one, a device or a pipe is written to as it is.

    Raises OSError, with the name that was given.
    """
    # With our process's number, so that two do not write into one.
    target = to if _is_special(to) else to.resolve()
    part = to if _is_special(to) else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as sink:
                if part != target and target.exists():
                    shutil.copymode(target, part)
                sink.write(data)
            if part != target:
                part.replace(target)
        finally:
            if part != target:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(to)) from None


def _is_special(to: Path) -> bool:
    """Something that must not be replaced by a file."""
    return to.exists() and not to.is_file()
