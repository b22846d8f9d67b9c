"""What arrives while something else is computed, and what is done where the card fails."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ubp_sql.kernels import dispatch

Item = TypeVar("Item")
Made = TypeVar("Made")
Say = Callable[[str], None]
OF_THE_CARD = {"cuda", "cupy", "cupy_backends", "cupyx", "numba", "numba_cuda"}
"""Packages whose errors are the card's, its driver's or its compiler's: they have no base of their own. numba-cuda
launches, links and loads through cuda.core, whose errors come as they are."""


def ahead(items: Iterator[Item]) -> Generator[Item]:
    """The items; a thread fetches the next one meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (found := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield found


def attempt(device: str | None, work: Callable[[], Made], say: Say) -> Made:
    """The work on a device, see dispatch.use; by the CPU where the card fails, and one line says so."""
    try:
        with dispatch.use(device):
            return work()
    except Exception as error:
        if device is None or type(error).__module__.partition(".")[0] not in OF_THE_CARD:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        say(f"the GPU failed: {lines[0]}; the CPU computes this part")
    return work()
