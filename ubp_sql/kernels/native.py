"""Loads the native library through ctypes, without Numba or NumPy, and says what it holds.

The library lies inside the package and is loaded only where nobody else can write than who can write the package: it
is trusted exactly as the package's own code is. Its name holds the package's version, the CPU's architecture and a hash
of all kernels' source, so that an older one is never loaded; its last bytes are a checksum.

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

from ubp_sql import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# name: (module, function, result, arguments)
ENTRIES: dict[str, tuple[str, str, str, str]] = {
    # (compiled forest, float32 row, column of the population or -1) -> score
    "ubp_score_row": ("ubp_sql.kernels.native_forest", "score_row", "d", "ppi"),
    # (compiled forest, float32 row, its outputs as float64) -> how many
    "ubp_score_outputs": ("ubp_sql.kernels.native_forest", "score_outputs", "i", "ppp"),
    # (compiled forest, explainer, float32 row, edges, contributions) -> raw score
    "ubp_explain_row": ("ubp_sql.kernels.native_shap", "explain_row", "d", "ppppp"),
    # (plan, table, begins) -> words of the buffer
    "ubp_live_room": ("ubp_sql.kernels.native_features", "live_room", "i", "ppp"),
    # (plan, table, packed columns, their bytes, begins, buffer, row, anchors, started, budget) -> live_layout.DONE, ...
    "ubp_live_row": ("ubp_sql.kernels.native_features", "live_row", "i", "pppippppii"),
    # the kernels of many rows, as aot.py calls them: (table of arrays, budget) -> 1 when all is done
    "ubp_batch_pairs": ("ubp_sql.kernels.native_batch", "batch_pairs", "i", "pi"),
    "ubp_batch_until": ("ubp_sql.kernels.native_batch", "batch_until", "i", "pi"),
    "ubp_batch_aged": ("ubp_sql.kernels.native_batch", "batch_aged", "i", "pi"),
    # (table of arrays) -> 0
    "ubp_batch_bits": ("ubp_sql.kernels.native_batch", "batch_bits", "i", "p"),
    # (table of arrays), (table of arrays, divisor, link, its parameter) -> 0
    "ubp_batch_leaves": ("ubp_sql.kernels.native_batch", "batch_leaves", "i", "p"),
    "ubp_batch_links": ("ubp_sql.kernels.native_batch", "batch_links", "i", "pdid"),
    # (packed column, its bytes, parts, how many, whether of numbers, out, its length) -> 1, 0 where they do not fit
    "ubp_widen": ("ubp_sql.kernels.native_forms", "widen_column", "i", "pipiipi"),
}
# Entries that the library holds a second time, as NAME_wide, for the CPUs of level x86-64-v3 (AVX2; Intel since 2013,
# AMD since 2015): 1.7-2.8 times as fast. All others gain nothing by it.
WIDE = frozenset(("ubp_batch_bits",))
WIDE_CPU = "x86-64-v3"
_WIDE_FLAGS = frozenset(("avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"))
_KERNELS = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(_KERNELS)


def source_hash() -> str:
    """Sixteen hexadecimal digits of everything that the library is made from.

    Two checksums that only accidents must not deceive: hashlib loads OpenSSL, 2-4 ms of a connection's first call.
    """
    names = [name for name in sorted(os.listdir(_KERNELS)) if name.endswith(".py") and "gpu" not in name]
    paths = [os.path.join(_KERNELS, name) for name in names]
    crc, adler = 0, 1
    for path in [*paths, os.path.join(_PACKAGE, "models", "blob.py")]:
        with open(path, "rb") as file:
            source = file.read()
        crc, adler = crc32(source, crc), adler32(source, adler)
    return f"{crc:08x}{adler:08x}"


@cache
def library_path() -> str:
    """Where the library for this version, architecture and source lies, built or not."""
    return os.path.join(_PACKAGE, "_native", f"kernels-{__version__}-{os.uname().machine}-{source_hash()}.so")


def library() -> "Any":
    """The loaded library; None where it is missing or not to be used."""
    return _looked_for()[0]


def fault() -> str:
    """Why the library is not used; empty where it is."""
    return _looked_for()[1]


def trailer(code: bytes) -> bytes:
    """What ends the file behind the library itself: a damaged one would take the server's process down."""
    return crc32(code).to_bytes(4, "little")


@cache
def _looked_for() -> "tuple[Any, str]":
    """(library or None, why none), once a process."""
    path = library_path()
    try:
        if said := _open_to_others(path):
            return None, said
        with open(path, "rb") as file:
            content = file.read()
        if trailer(content[:-4]) != content[-4:]:
            return None, f"{path} is damaged"
        import ctypes

        return ctypes.CDLL(path), ""
    except FileNotFoundError:
        return None, f"{path} is not there"
    except OSError as error:  # also of dlopen: built for another CPU, or the file system is mounted noexec
        return None, f"{path} does not load: {error}"


def _open_to_others(path: str) -> str:
    """Who else could have written the file or another in its place; empty where only who can write the package."""
    package = os.stat(_PACKAGE)
    for place in (os.path.dirname(path), path):
        found = os.stat(place)
        if found.st_uid not in (0, os.geteuid(), package.st_uid):
            return f"{place} belongs to account {found.st_uid}, the package to {package.st_uid}"
        if found.st_mode & ~package.st_mode & 0o022:
            return f"accounts that cannot write the package can write {place}"
    return ""


@cache
def is_wide() -> bool:
    """Whether this CPU, and the system on it, is of level WIDE_CPU."""
    try:
        with open("/proc/cpuinfo") as file:
            first = file.read(16384)  # all of the first core's description; that of 200 cores takes milliseconds
    except OSError:
        return False
    _, _, flags = first.partition("\nflags")
    return frozenset(flags.partition("\n")[0].split()) >= _WIDE_FLAGS


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
        function: Any = found[f"{name}_wide" if name in WIDE and is_wide() else name]
    except AttributeError:
        return None
    function.argtypes = tuple(kinds[kind] for kind in arguments)
    function.restype = kinds[result]
    return function  # type: ignore[no-any-return]
