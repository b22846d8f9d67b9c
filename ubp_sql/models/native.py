"""Loads the native row scorer through ctypes, without Numba or NumPy.

The library lies inside the package, where only who installed the package can write: it is trusted exactly as the
package's own code is. Its name holds the hash of its source, so an older one is never loaded.
"""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENTRY = "ubp_score_row"
_PACKAGE = Path(__file__).parent.parent

Native = Callable[[bytes, bytes, int], float]


def library_path() -> Path:
    """Where the library for this source and architecture lies, built or not."""
    source = (_PACKAGE / "kernels" / "native_forest.py").read_bytes() + (_PACKAGE / "models" / "blob.py").read_bytes()
    return _PACKAGE / "_native" / f"scorer-{os.uname().machine}-{sha256(source).hexdigest()[:16]}.so"


def load() -> "Native | None":
    """`score(blob, packed row, population column or -1)`, or None where the library is missing or does not load."""
    path = library_path()
    if not path.exists():
        return None
    import ctypes

    try:
        entry: Any = ctypes.CDLL(str(path))[ENTRY]
    except (OSError, AttributeError):
        return None
    entry.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64)
    entry.restype = ctypes.c_double
    return entry  # type: ignore[no-any-return]
