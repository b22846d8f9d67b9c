"""Loads the native library through ctypes, without Numba or NumPy, and says what it holds.

The library lies inside the package, where only who installed the package can write: it is trusted exactly as the
package's own code is. Its name holds a hash of all kernels' source, so an older one is never loaded.

How to add an entry: write a function of numbers and addresses in a module `ubp_sql/kernels/native_<topic>.py`, and a
line in ENTRIES: the exported name, the module and function, the result's type, the arguments' types. Types are `p` an
address (Numba `voidptr`; from ctypes `bytes`, an array, an address as int, None), `i` int64, `d` float64. The function
makes arrays by `numba.carray(address, shape, numba.types.int64)`, may build NamedTuples of them and call any jitted
function of the kernels. It must not allocate, raise, or use Python objects: nothing of Numba's runtime is linked, and
what could still be reached of it does nothing. Doctor builds the library with the rest; a session gets an entry by
`entry("ubp_...")`, None where there is no library.
"""

import os
from collections.abc import Callable
from functools import cache
from zlib import adler32, crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# name: (module, function, result, arguments)
ENTRIES: dict[str, tuple[str, str, str, str]] = {
    # (compiled forest, float32 row, column of the population or -1) -> score
    "ubp_score_row": ("ubp_sql.kernels.native_forest", "score_row", "d", "ppi"),
    # (plan, table, begins) -> words of the buffer
    "ubp_live_room": ("ubp_sql.kernels.native_features", "live_room", "i", "ppp"),
    # (plan, table, packed columns, their bytes, begins, buffer, row, anchors, started, budget) -> live_layout.DONE, ...
    "ubp_live_row": ("ubp_sql.kernels.native_features", "live_row", "i", "pppippppii"),
    # the kernels of many rows, as aot.py calls them: (table of arrays, budget) -> 1 when all is done
    "ubp_batch_pairs": ("ubp_sql.kernels.native_batch", "batch_pairs", "i", "pi"),
    "ubp_batch_until": ("ubp_sql.kernels.native_batch", "batch_until", "i", "pi"),
    "ubp_batch_aged": ("ubp_sql.kernels.native_batch", "batch_aged", "i", "pi"),
    # (table of arrays), (table of arrays, divisor, sigmoid) -> 0
    "ubp_batch_leaves": ("ubp_sql.kernels.native_batch", "batch_leaves", "i", "p"),
    "ubp_batch_links": ("ubp_sql.kernels.native_batch", "batch_links", "i", "pdd"),
}
_KERNELS = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(_KERNELS)


def source_hash() -> str:
    """Sixteen hexadecimal digits of everything that the library is made from.

    Two checksums that only accidents must not deceive: hashlib loads OpenSSL, 2-4 ms of a connection's first call.
    """
    paths = [os.path.join(_KERNELS, name) for name in sorted(os.listdir(_KERNELS)) if name.endswith(".py")]
    crc, adler = 0, 1
    for path in [*paths, os.path.join(_PACKAGE, "models", "blob.py")]:
        with open(path, "rb") as file:
            source = file.read()
        crc, adler = crc32(source, crc), adler32(source, adler)
    return f"{crc:08x}{adler:08x}"


@cache
def library_path() -> str:
    """Where the library for this source and architecture lies, built or not."""
    return os.path.join(_PACKAGE, "_native", f"kernels-{os.uname().machine}-{source_hash()}.so")


@cache
def library() -> "Any":
    """The loaded library, looked for once a process; None where it is missing or does not load."""
    path = library_path()
    if not os.path.exists(path):
        return None
    import ctypes

    try:
        return ctypes.CDLL(path)
    except OSError:
        return None


@cache
def entry(name: str) -> "Callable[..., Any] | None":
    """The function of that name in ENTRIES, or None where the library is missing or lacks it."""
    found = library()
    if found is None:
        return None
    import ctypes

    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}
    _, _, result, arguments = ENTRIES[name]
    try:
        function: Any = found[name]
    except AttributeError:
        return None
    function.argtypes = tuple(kinds[kind] for kind in arguments)
    function.restype = kinds[result]
    return function  # type: ignore[no-any-return]
