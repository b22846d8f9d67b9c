"""Stands for CuPy where there is no card: arrays that the host cannot read by accident, and a count of what is copied.

An array of it is no NumPy array and does not turn into one: what CuPy refuses, it refuses.
"""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from ubp_sql.kernels import _gpu_card


class OnCard:
    """An array on the card; only what the backend needs of CuPy's."""

    __array_ufunc__ = None
    copied: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, inner: Any) -> None:
        assert type(inner) is np.ndarray
        self.inner = inner

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    shape = property(lambda self: self.inner.shape)
    dtype = property(lambda self: self.inner.dtype)
    size = property(lambda self: self.inner.size)
    ndim = property(lambda self: self.inner.ndim)
    nbytes = property(lambda self: self.inner.nbytes)
    flags = property(lambda self: self.inner.flags)
    T = property(lambda self: OnCard(self.inner.T))

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, key: Any) -> "OnCard":
        return OnCard(np.asarray(self.inner[_plain(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(value, OnCard):
            raise TypeError("an array of the host cannot be assigned to one on the card")
        self.inner[_plain(key)] = value.inner

    def __sub__(self, other: int) -> "OnCard":
        return OnCard(self.inner - int(other))

    def __ne__(self, other: Any) -> Any:
        return OnCard(self.inner != other.inner)

    __hash__ = None  # type: ignore[assignment]

    def nonzero(self) -> tuple["OnCard", ...]:
        return tuple(map(OnCard, self.inner.nonzero()))

    def set(self, given: Any, stream: Any = None) -> None:
        assert (type(given), given.dtype, given.shape) == (np.ndarray, self.dtype, self.shape)
        self.copied.append(("to", given.nbytes))
        self.inner[...] = given

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        self.copied.append(("from", self.nbytes))
        if out is None:
            return self.inner.copy()
        assert (out.dtype, out.shape) == (self.dtype, self.shape)
        assert not blocking
        stream.pending.append((out, self.inner.copy()))
        return out


def _plain(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_plain, key))
    return key.inner if isinstance(key, OnCard) else key


class Stream:
    """Where all is done at once but for copies to the host, which are there when it was waited for."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.waited = False
        self.pending: list[tuple[Any, Any]] = []

    def __enter__(self) -> "Stream":
        assert self.waited, "what the caller has begun may be under way"
        self.waited = False
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        assert event == "event"
        self.waited = True

    def record(self) -> str:
        return "event"

    def synchronize(self) -> None:
        for out, made in self.pending:
            out[...] = made
        self.pending.clear()


def _contiguous(given: OnCard) -> OnCard:
    return given if given.inner.flags.c_contiguous else OnCard(np.ascontiguousarray(given.inner))


def asarray(given: Any) -> OnCard:
    """A host's array on the card."""
    made = OnCard(np.empty_like(given, order="C"))
    made.set(given)
    return made


CUPY = SimpleNamespace(
    ndarray=OnCard,
    asarray=asarray,
    empty=lambda *given: OnCard(np.empty(*given)),
    zeros=lambda *given: OnCard(np.zeros(*given)),
    ascontiguousarray=_contiguous,
    get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 1 << 20),
    cuda=SimpleNamespace(
        Stream=Stream,
        get_current_stream=Stream,
        runtime=SimpleNamespace(memGetInfo=lambda: (1 << 26, 1 << 27)),
    ),
)


def stand_in(patch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Puts it in CuPy's place; returns what is copied, ("to" | "from", bytes), as it happens."""
    patch.setattr(_gpu_card, "arrays", lambda: CUPY)
    patch.setattr("ubp_sql.kernels.gpu.arrays", lambda: CUPY)
    patch.setattr(_gpu_card, "page_locked", lambda like: np.empty(like.shape, like.dtype))
    patch.setattr(_gpu_card.Lane, "of_kernel", lambda lane, made: made.inner)
    patch.setattr(_gpu_card.Lane, "_numba_stream", lambda lane: 0)
    OnCard.copied.clear()
    return OnCard.copied
