"""A rival in a process of its own: with its own threads and memory, timed inside it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from bench.event_log import F64, I64
from bench.stored import Size, log_of

_ENGINES = {"DuckDB": "bench.rivals.duckdb_engine", "Polars": "bench.rivals.polars_engine"}


class Apart:
    """`engine` with `threads` over the log of `size`."""

    def __init__(self, engine: str, threads: int, size: Size) -> None:
        here, there = get_context("spawn").Pipe()
        with _environment("POLARS_MAX_THREADS", str(threads)):
            self._process = get_context("spawn").Process(
                target=_serve, args=(there, engine, threads, size), daemon=True
            )
            self._process.start()
        there.close()
        self._pipe: Connection[Any, Any] = here
        self._take()

    def time(self, call: str, *arguments: object) -> float:
        """Seconds of one call of the engine's method."""
        self._pipe.send((call, arguments))
        return float(self._take())

    def answer(self) -> tuple[I64, F64]:
        """What the last call found: users ascending, and (users, 25) features."""
        self._pipe.send(("answer", ()))
        users, table = self._take()
        return users, table

    def answer_pairs(self, rows: I64 | None = None) -> F64:
        """(pairs, 25) features of the last call, of these rows only."""
        self._pipe.send(("answer_pairs", (rows,)))
        table: F64 = self._take()
        return table

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send(None)
        self._process.join()

    def _take(self) -> Any:
        found = self._pipe.recv()
        if isinstance(found, BaseException):
            raise found
        return found


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


def _serve(pipe: "Connection[Any, Any]", engine: str, threads: int, size: Size) -> None:
    try:
        rival = getattr(import_module(_ENGINES[engine]), engine)(log_of(size), threads)
        log_of.cache_clear()
        pipe.send("ready")
        while (asked := pipe.recv()) is not None:
            call, arguments = asked
            started = time.perf_counter()
            found = getattr(rival, call)(*arguments)
            seconds = time.perf_counter() - started
            pipe.send(found if call.startswith("answer") else seconds)
    except Exception as error:
        pipe.send(error)
