"""Between naive runs and blocks; strategies of runs."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tests.mirror.naive import Entry, Row, Run
from ubp_sql.features.columns import Declared
from ubp_sql.mirror.layout import BASE, Block, dtype_of, starts

DECLARED = (
    Declared("discount", "discount", "number"),
    Declared("channel", "channel", "text"),
    Declared("search", "search", "words"),
)
VALUES = [0.0, -0.0, 1.5, -3.25, 1e308, float("inf"), float("-inf"), float("nan")]


def block_of(run: Run, names: Sequence[str] = ("t", "ingested", "event_id", "value")) -> Block:
    """A block of a naive run; columns that a row lacks are filled from its id."""
    users = sorted(run)
    rows = [row for user in users for row in run[user].rows]
    columns = {}
    for name in names:
        dtype = np.dtype(dtype_of(name, DECLARED)).newbyteorder("=")
        columns[name] = np.array([getattr(row, name, row.event_id % 7) for row in rows], dtype)
    return Block(
        np.array(users, np.int64),
        starts(np.array([len(run[user].rows) for user in users], np.int64)),
        np.array([run[user].complete for user in users], np.bool_),
        columns,
    )


def run_of(block: Block) -> Run:
    """The naive run of a block."""
    result: Run = {}
    for place, user in enumerate(block.user_id.tolist()):
        part = slice(int(block.first[place]), int(block.first[place + 1]))
        parts = [block.columns[name][part].tolist() for name in ("t", "ingested", "event_id", "value")]
        rows = [Row(user, *row) for row in zip(*parts, strict=True)]
        assert user not in result
        result[user] = Entry(bool(block.complete[place]), rows)
    return result


def same(one: Run, other: Run) -> bool:
    """Equal, to the sign of zeros and with NaN equal to NaN."""
    return repr(sorted(one.items())) == repr(sorted(other.items()))


@st.composite
def runs(draw: st.DrawFn, most: int = 5) -> list[Run]:
    """Runs whose events meet: few users, times and ids; an event has the same content wherever it is."""
    content: dict[tuple[int, ...], Row] = {}
    result = []
    for _ in range(draw(st.integers(1, most))):
        run: Run = {}
        for user in draw(st.sets(st.integers(-2, 5), max_size=5)):
            rows = []
            for key in draw(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 5)), max_size=6)):
                row = Row(user, *key, draw(st.sampled_from(VALUES)))
                rows.append(content.setdefault(row[:4], row))
            run[user] = Entry(draw(st.booleans()), sorted(rows, key=lambda row: row[:4]))
        result.append(run)
    return result


ALL = (*BASE, *(column.name for column in DECLARED))
