"""The card: whether there is one, CuPy or what stands for it, and streams of work.

The only module that imports CuPy, and that when it is first asked for.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import local
from typing import Any

import numpy as np

from ubp_sql.kernels.dispatch import NoCard

THREADS = 64
"""Of a block; the engine needs some 180 registers a thread, so that five such blocks fit a multiprocessor."""
SHARE = 0.4
"""Of the free memory for each of the two parts under way, half of it for scratch."""
SIMULATED_ROOM = 1 << 26


def fault() -> str:
    """Why no GPU can be used; empty where one can."""
    return _fault()


@cache
def _fault() -> str:
    try:
        if find_spec("numba_cuda") is None:
            return "package numba-cuda is not installed: pip install 'ubp_sql[gpu]'"
        if simulated():
            return ""
        cupy = import_module("cupy")
        if cupy.cuda.runtime.getDeviceCount() < 1:
            return "there is no NVIDIA GPU in this machine"
        _numba_cuda().current_context()
    except ImportError as error:
        return f"{error}: pip install 'ubp_sql[gpu]'"
    except Exception as error:  # CuPy's and Numba's own kinds, which have no common base
        return f"the driver of the GPU does not answer: {str(error).strip().splitlines()[0]}"
    return ""


def simulated() -> bool:
    """Whether numba.cuda simulates a card."""
    return bool(import_module("numba.core.config").ENABLE_CUDASIM)


def _numba_cuda() -> Any:
    """Untyped, and imported when it is first asked for."""
    return import_module("numba.cuda")


def card_name() -> str:
    """What the card calls itself. Raises NoCard."""
    xp = arrays()
    if xp is np:
        return "simulated"
    name: bytes = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"]
    return name.decode()


def software() -> str:
    """What compiles and runs the kernels, in its versions. Raises NoCard."""
    xp, numba_cuda = arrays(), f"numba-cuda {version('numba-cuda')}"
    if xp is np:
        return numba_cuda
    return f"driver {xp.cuda.runtime.driverGetVersion()}, CuPy {xp.__version__}, {numba_cuda}"


@cache
def arrays() -> Any:
    """CuPy, or what stands for it. Raises NoCard."""
    if said := fault():
        raise NoCard(said)
    if simulated():
        return np
    from ubp_sql.kernels._gpu_source import round_as_the_cpu

    round_as_the_cpu()
    # A part of few users is a small grid, of which Numba would warn at each launch.
    _numba_cuda().config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
    return import_module("cupy")


@cache
def kernels(name: str) -> Any:
    """The module of kernels of that name. What a card needs compiled, half a minute's work, is kept on disk."""
    module = import_module(f"ubp_sql.kernels.{name}")
    if not simulated() and (folder := _kept()):
        config, dispatcher = _numba_cuda().config, import_module("numba.cuda.dispatcher")
        before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            for kernel in vars(module).values():
                if isinstance(kernel, dispatcher.CUDADispatcher) and not kernel.targetoptions.get("device"):
                    kernel.enable_caching()
        finally:
            config.CACHE_DIR = before
    return module


def _kept() -> Path | None:
    """A folder of the user's for this very source: Numba looks at a kernel's file alone, not at what it calls."""
    source = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "ubp_sql" / f"gpu-{source.hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except OSError:
        return None
    # What lies there is unpickled: nobody else may have written it.
    return folder if about.st_uid == os.getuid() and not about.st_mode & 0o022 else None


class Lane:
    """A stream of work on the card: what is put, launched and taken in it runs in this order, beside other lanes.

    CuPy's pool gives memory that was freed in a stream to the same stream again, which is behind whatever used it;
    page-locked memory it gives to anybody at once, so that it is kept until `finish`.
    """

    def __init__(self) -> None:
        self.xp = arrays()
        self.stream = None if self.xp is np else self.xp.cuda.Stream(non_blocking=True)
        self._pinned: list[Any] = []
        self._taken: list[tuple[Any, Any]] = []

    def here(self) -> AbstractContextManager[Any]:
        """CuPy's own work in this lane, behind what the caller has begun: arrays of his may be under way yet."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_event(self.xp.cuda.get_current_stream().record())
        stream: AbstractContextManager[Any] = self.stream
        return stream

    def has(self, given: Any) -> bool:
        """Whether an array lies on the card."""
        return self.xp is not np and isinstance(given, self.xp.ndarray)

    def put(self, given: Any) -> Any:
        """An array on the card, contiguous; what is there already is not copied."""
        xp = self.xp
        if xp is np or self.has(given):
            return xp.ascontiguousarray(given)
        made = xp.empty(given.shape, given.dtype)
        if given.size:
            staged = page_locked(given)
            staged[...] = given
            self._pinned.append(staged)
            made.set(staged, stream=self.stream)
        return made

    def put_all(self, given: Any) -> Any:
        """A tuple of arrays, as kernels take it."""
        return type(given)._make(self.of_kernel(self.put(item)) for item in given)

    def of_kernel(self, made: Any) -> Any:
        """An array of CuPy as one of numba.cuda, which keeps it alive."""
        return made if self.xp is np else _numba_cuda().as_cuda_array(made, sync=False)

    def launch(self, kernel: Any, threads: int, *arguments: Any, block: int = THREADS) -> None:
        if threads:
            arguments = tuple(item if isinstance(item, tuple) else self.of_kernel(item) for item in arguments)
            kernel[-(-threads // block), block, self._numba_stream()](*arguments)

    def _numba_stream(self) -> Any:
        return 0 if self.stream is None else _numba_cuda().external_stream(self.stream.ptr)

    def room_for(self, out: Any) -> Any:
        """Where a kernel writes what `out` is to hold: `out` itself where it lies on the card; else see `take`."""
        if self.has(out) and out.flags.c_contiguous:
            return out
        return self.xp.empty(out.shape, out.dtype)

    def take(self, made: Any, out: Any) -> None:
        """Into `out`, which has it after `finish`."""
        if made is out or not made.size:
            return
        if self.xp is np or self.has(out):
            out[...] = made
            return
        staged = page_locked(made)
        made.get(stream=self.stream, out=staged, blocking=False)
        self._taken.append((staged, out))

    def finish(self) -> None:
        """Waits for all of it."""
        if self.stream is not None:
            self.stream.synchronize()
        taken, self._taken = self._taken, []
        self._pinned.clear()
        for staged, out in taken:
            out[...] = staged

    def room(self) -> int:
        """Bytes that a part may take of the card, of two parts under way; what CuPy's pool keeps is free too."""
        if self.xp is np:
            return SIMULATED_ROOM
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(SHARE * (free + self.xp.get_default_memory_pool().free_bytes()))


def page_locked(like: Any) -> Any:
    """Memory of the host that is copied from and to while the CPU does something else."""
    return import_module("cupyx").empty_pinned(like.shape, like.dtype)


_of_thread = local()


def lanes() -> tuple[Lane, Lane]:
    """Two for the thread, kept: a stream of its own for each part would have each part's memory allocated anew."""
    xp = arrays()
    made: tuple[Any, tuple[Lane, Lane]] | None = getattr(_of_thread, "lanes", None)
    if made is None or made[0] is not xp:
        made = _of_thread.lanes = (xp, (Lane(), Lane()))
    return made[1]
