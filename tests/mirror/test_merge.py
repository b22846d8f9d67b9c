"""Merging sorted blocks against sort and dict."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mirror.blocks import block_of, run_of, runs, same
from tests.mirror.naive import Entry, Row, Run, merged
from ubp_sql.mirror import merge as m
from ubp_sql.mirror.spill import pieces


@given(runs())
def test_blocks_become_one(found: list[Run]) -> None:
    want = merged(found)
    blocks = [block_of(run) for run in found]
    assert same(run_of(m.merge(blocks)), want)
    live = [block for block in blocks if len(block.user_id)]
    if live:
        assert same(run_of(m._sorted(live)), want), "many blocks are sorted, few are inserted into each other"


@given(runs(), st.integers(1, 4))
def test_streams_become_one(found: list[Run], rows: int) -> None:
    """Cut into pieces of a few events, in the middle of users too."""
    cursors = [m.Cursor(pieces(block_of(run), rows)) for run in found]
    parts = list(m.merged(cursors))
    for one, other in pairwise(parts):
        if len(one.user_id) and len(other.user_id):
            assert one.user_id[-1] <= other.user_id[0]
    got = run_of(m.join(parts)) if parts else {}
    assert same(got, merged(found))


@given(runs(most=1), st.integers(-3, 6), st.one_of(st.none(), st.integers(-1, 5)), st.integers(0, 2), st.integers(0, 5))
def test_a_cut(found: list[Run], user: int, t: int | None, ingested: int, event_id: int) -> None:
    key = m.Key(user, t, ingested, event_id)
    left, right = m.split(block_of(found[0]), key)
    one, other = run_of(left), run_of(right)

    def lies_left(row: Row) -> bool:
        return row.user < user or (row.user == user and (t is None or row[1:4] <= (t, ingested, event_id)))

    assert all(lies_left(row) for entry in one.values() for row in entry.rows)
    assert not any(lies_left(row) for entry in other.values() for row in entry.rows)
    assert same(run_of(m.join([left, right])), found[0])
    if user in found[0] and t is not None:
        assert user in one
        assert user in other, "both parts know whether the user's entry is complete"
        assert one[user].complete == other[user].complete == found[0][user].complete


def test_a_complete_entry_without_events_voids() -> None:
    old = {1: Entry(True, [Row(1, 5, 5, 1)]), 2: Entry(True, [Row(2, 5, 5, 2)])}
    gone = {1: Entry(True, [])}
    assert run_of(m.merge([block_of(old), block_of(gone)]))[1] == Entry(True, [])
    again = {1: Entry(False, [Row(1, 6, 6, 3)])}
    got = run_of(m.merge([block_of(old), block_of(gone), block_of(again)]))
    assert got[1] == Entry(True, [Row(1, 6, 6, 3)])


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_a_user_in_many_pieces_is_voided_whole(parts: int) -> None:
    """The newer entry is met with the first piece already, and still known at the last."""
    rows = [Row(7, t, t, t) for t in range(100)]
    old = block_of({7: Entry(True, rows), 9: Entry(True, [Row(9, 1, 1, 500)])})
    new = block_of({7: Entry(True, [Row(7, 50, 50, 50)])})
    cursors = [m.Cursor(pieces(old, 100 // parts)), m.Cursor(pieces(new, 10))]
    got = run_of(m.join(list(m.merged(cursors))))
    assert got[7].rows == [Row(7, 50, 50, 50)]
    assert len(got[9].rows) == 1


def test_no_block_has_users() -> None:
    nobody = block_of({})
    assert len(m.merge([nobody, nobody]).user_id) == 0
    assert list(m.merged([m.Cursor([(nobody, False)]), m.Cursor([])])) == []


def test_large_runs() -> None:
    """Figures of another size than the others', so that every search has many steps."""
    rng = np.random.default_rng(3)
    found: list[Run] = []
    for number in range(4):
        run: Run = {}
        for user in range(0, 60, number + 1):
            keys = {(int(t), int(t) + int(i), int(e)) for t, i, e in rng.integers(0, 40, (50, 3))}
            rows = [Row(user, *key, float(sum(key))) for key in sorted(keys)]
            run[user] = Entry(bool(rng.integers(4) == 0), rows)
        found.append(run)
    blocks = [block_of(run) for run in found]
    assert same(run_of(m.merge(blocks)), merged(found))
    assert same(run_of(m.merge(blocks[:2])), merged(found[:2]))
