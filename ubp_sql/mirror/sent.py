"""Events as the server sends them - one value a column, of PostgreSQL's binary send functions - turned into a block."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ubp_sql.errors import BadInput
from ubp_sql.features.columns import Declared
from ubp_sql.features.events import FAR_US, POSTGRES_EPOCH_US
from ubp_sql.kernels.dispatch import I32, I64, NO_KEY
from ubp_sql.mirror.layout import Block, Column, group

KIND_BITS = 24
"""Bits of a row's marks that hold the code of its kind; above them a bit for each value that is sent."""
MARKED = ("ingested", "item", "order", "value", "quantity", "duration_s", "offset_s")
_SENT = {
    "ingested": ">i8",
    "item": ">i8",
    "order": ">i8",
    "value": ">f8",
    "quantity": ">f4",
    "duration_s": ">f4",
    "offset_s": ">i4",
}
_EXTRA = {"number": ">f8", "text": ">i8", "words": ">i8"}


def block_of(sent: Mapping[str, Any], extras: Sequence[Declared] = ()) -> Block:
    """The events of one answer, sorted by (user, time, ingested, id).

    sent    user_id, t, event_id   int8send and timestamptz_send, one of each event
            marks                  int4send: code of the kind, and a bit a column of MARKED that the event has
            MARKED                 the values that are there: timestamptz_send, int8send, float8send, float4send
            x1, x2, ...            the declared columns, one of each event; missing as NaN, NO_KEY or 0

    An event without `ingested` was known when it happened, one without `order` is its own, one without `offset_s`
    is on UTC's clock. Raises BadInput (UB003) on columns of unequal length and on an infinite event time.
    """
    user = _unpack("user_id", sent["user_id"], ">i8")
    n = len(user)
    t = _times("t", sent["t"], infinite=False)
    marks: I32 = _unpack("marks", sent["marks"], ">i4").astype(np.int32)
    columns: dict[str, Column] = {
        "t": t,
        "ingested": t,
        "event_id": _unpack("event_id", sent["event_id"], ">i8"),
        "kind": (marks & ((1 << KIND_BITS) - 1)).astype(np.int32),
        "item": _missing(n, NO_KEY),
        "order": t,
        "value": np.full(n, np.nan),
        "quantity": np.full(n, np.nan),
        "duration_s": np.full(n, np.nan),
        "offset_s": np.zeros(n, np.int32),
    }
    for bit, name in enumerate(MARKED, KIND_BITS):
        raw = sent[name]
        there = (marks & (1 << bit)) != 0
        count = int(there.sum())
        if name == "ingested":
            values = _times(name, raw or b"", infinite=True)
        else:
            values = _unpack(name, raw or b"", _SENT[name])
        if len(values) != count:
            raise BadInput(f"events: {name} has {len(values)} values, the marks tell of {count}")
        if count:
            full = columns[name].copy()
            full[there] = values
            columns[name] = full
    for number, extra in enumerate(extras, 1):
        columns[extra.name] = _unpack(extra.name, sent[f"x{number}"], _EXTRA[extra.type])
    for name, column in columns.items():
        if len(column) != n:
            raise BadInput(f"events: {name} has {len(column)} rows, user_id {n}")
    return sort(user, columns)


def sort(user: I64, columns: dict[str, Column]) -> Block:
    """A block of events in any order; of events equal in user, time, ingested and id one stays."""
    keys = (columns["event_id"], columns["ingested"], columns["t"], user)
    if not _in_order(keys):
        order = np.lexsort(keys)
        user, columns = user[order], {name: column[order] for name, column in columns.items()}
    same = user[1:] == user[:-1]
    for name in ("t", "event_id", "ingested"):
        if same.any():
            same &= columns[name][1:] == columns[name][:-1]
    if same.any():
        keep = np.concatenate(([True], ~same))
        user, columns = user[keep], {name: column[keep] for name, column in columns.items()}
    return group(user, columns)


def _in_order(keys: tuple[Column, ...]) -> bool:
    """Whether rows already ascend by (last key, ..., first key), as lexsort would have them."""
    fine = np.ones(max(0, len(keys[0]) - 1), np.bool_)
    for key in keys:
        before, after = key[:-1], key[1:]
        fine = (before < after) | ((before == after) & fine)
    return bool(fine.all())


def _missing(n: int, value: int) -> I64:
    column: I64 = np.full(n, value, np.int64)
    return column


def _unpack(name: str, raw: bytes, dtype: str) -> Any:
    size = np.dtype(dtype).itemsize
    if len(raw) % size:
        raise BadInput(f"events: {name} has {len(raw)} bytes, not a multiple of {size}")
    big_endian = np.frombuffer(raw, dtype)
    return big_endian.astype(big_endian.dtype.newbyteorder("="))


def _times(name: str, raw: bytes, *, infinite: bool) -> I64:
    """Microseconds since 1970, held within FAR_US; PostgreSQL's infinities are the ends of int64."""
    since_2000: I64 = _unpack(name, raw, ">i8")
    ends = np.iinfo(np.int64)
    if not infinite and len(since_2000) and (since_2000.max() == ends.max or since_2000.min() == ends.min):
        raise BadInput(f"events: {name} is infinite")
    since_1970: I64 = np.clip(since_2000, -FAR_US, FAR_US - POSTGRES_EPOCH_US) + POSTGRES_EPOCH_US
    return since_1970
