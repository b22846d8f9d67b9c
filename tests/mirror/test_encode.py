"""Chunks: cut, packed, and back, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mirror.blocks import ALL, DECLARED, VALUES, block_of, run_of, runs, same
from tests.mirror.naive import Run
from ubp_sql.kernels.dispatch import NO_KEY
from ubp_sql.mirror.encode import FORM_BYTES, STORED, Cutter, Meta, blocks_of, decode, encode
from ubp_sql.mirror.layout import BASE, Block, dtype_of, starts
from ubp_sql.mirror.merge import Cursor, join, merged
from ubp_sql.mirror.spill import Portions, pieces

INT64 = st.sampled_from([NO_KEY, NO_KEY + 1, -1, 0, 1, 2**63 - 1])
NUMBER = st.sampled_from([*VALUES, 5e-324])
COLUMNS = {
    "t": st.integers(-(2**61), 2**61),
    "ingested": st.sampled_from([-(2**62), 0, 2**62]),
    "event_id": st.integers(-5, 2**62),
    "kind": st.integers(1, 3),
    "item": INT64,
    "order": INT64,
    "value": NUMBER,
    "quantity": NUMBER,
    "duration_s": NUMBER,
    "offset_s": st.sampled_from([-3600, 0, 20700]),
    "discount": NUMBER,
    "channel": INT64,
    "search": st.sampled_from([0, 1, -1, NO_KEY]),
}


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Any content: sorted order plays no part in packing."""
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    users = sorted(draw(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=len(sizes), max_size=len(sizes))))
    n = sum(sizes)
    columns = {}
    for name in ALL:
        same = draw(st.booleans())
        values = draw(st.lists(COLUMNS[name], min_size=n, max_size=n))
        columns[name] = np.array(values[:1] * n if same else values, dtype_of(name, DECLARED).lstrip("<"))
    for name in ("ingested", "order"):
        if draw(st.booleans()):
            columns[name] = columns["t"]
    complete = np.array(draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes))))
    return Block(np.array(users, np.int64), starts(np.array(sizes, np.int64)), complete, columns)


def _meta(row: dict[str, object], part: int = 0, chunk_id: int = 1) -> Meta:
    return Meta(*({**row, "chunk_id": chunk_id, "part": part}[name] for name in Meta._fields))  # type: ignore[arg-type]


def _same_bits(one: Block, other: Block) -> None:
    assert one.user_id.tolist() == other.user_id.tolist()
    assert one.first.tolist() == other.first.tolist()
    assert one.complete.tolist() == other.complete.tolist()
    for name, column in one.columns.items():
        got = other.columns[name]
        assert got.dtype == column.dtype, name
        missing = np.isnan(column) if column.dtype == np.float64 else np.zeros(len(column), np.bool_)
        assert np.array_equal(np.isnan(got) if column.dtype == np.float64 else missing, missing), name
        assert column[~missing].tobytes() == got[~missing].tobytes(), name


@given(blocks())
def test_packed_and_back(block: Block) -> None:
    row = encode(block, DECLARED)
    _same_bits(block, decode(block.n, [(_meta(row), row)], ALL, DECLARED))


@given(blocks())
def test_a_missing_column_costs_nothing(block: Block) -> None:
    row = encode(block, DECLARED)
    for place, name in enumerate(BASE):
        raw = row[STORED.get(name, name)]
        assert len(raw or b"") == block.n * row["forms"][FORM_BYTES * place]
    if block.n and np.isnan(block.columns["value"]).all():
        assert row["value"] is None
    if block.n and (block.columns["offset_s"] == block.columns["offset_s"][0]).all():
        assert row["offset_s"] is None
        assert row["offset_all"] == block.columns["offset_s"][0]


@given(runs(most=1), st.integers(1, 5), st.integers(1, 4))
def test_cut_into_chunks(found: list[Run], limit: int, rows: int) -> None:
    """Whole users, or parts of one; nothing lost, nothing larger than the limit."""
    block = block_of(found[0])
    chunks: list[tuple[Block, int]] = []
    cutter = Cutter(lambda chunk, part: chunks.append((chunk, part)), limit)
    for piece, _ in pieces(block, rows):
        cutter.add(piece)
    cutter.close()
    assert same(run_of(join([chunk for chunk, _ in chunks])) if chunks else {}, found[0])
    seen: dict[int, int] = {}
    for chunk, part in chunks:
        assert chunk.n <= limit
        assert len(chunk.user_id) <= limit
        for user in chunk.user_id.tolist():
            assert part == seen.get(user, 0)
            seen[user] = part + 1
        if part or seen[int(chunk.user_id[0])] > 1:
            assert len(chunk.user_id) == 1
    for user, parts in seen.items():
        assert parts == 1 or len(found[0][user].rows) > limit


def test_chunks_fill_up() -> None:
    """10,000 users with one event: as many chunks as it takes, all full but the last."""
    n = 10_000
    users = np.arange(n)
    block = Block(users, starts(np.ones(n, np.int64)), np.ones(n, np.bool_), {"t": users, "ingested": users})
    sizes: list[int] = []
    cutter = Cutter(lambda chunk, part: sizes.append(chunk.n), 256)
    for piece, _ in pieces(block, 100):
        cutter.add(piece)
    cutter.close()
    assert sizes == [256] * 39 + [16]


def test_groups_say_where_a_user_goes_on() -> None:
    metas = [
        Meta(number, user, user, part, 5, 1, 0, True, None, None, b"")
        for number, (user, part) in enumerate([(1, 0), (2, 0), (2, 1), (2, 2), (3, 0)])
    ]
    found = [([meta.chunk_id for meta in group], goes_on) for group, goes_on in blocks_of(metas, 10)]
    assert found == [([0, 1], True), ([2, 3], False), ([4], False)]


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_portions_in_memory_and_in_a_file(limit: int, tmp_path: object) -> None:
    from pathlib import Path

    rng = np.random.default_rng(1)
    folder = Path(str(tmp_path)) / "made"
    portions = Portions(folder, limit)
    want: dict[int, list[int]] = {}
    for _ in range(5):
        users = np.sort(rng.choice(1000, 200, replace=False))
        columns = {"t": rng.integers(0, 9, 200), "ingested": np.zeros(200, np.int64)}
        columns |= {"event_id": rng.integers(0, 1 << 40, 200), "kind": np.ones(200, np.int32)}
        portions.add(Block(users, starts(np.ones(200, np.int64)), np.zeros(200, np.bool_), columns))
        for user, event_id in zip(users.tolist(), columns["event_id"].tolist(), strict=True):
            want.setdefault(user, []).append(event_id)
    assert portions.events == 1000
    whole = join(list(merged(portions.cursors())))
    got = {
        user: sorted(whole.columns["event_id"][whole.first[i] : whole.first[i + 1]].tolist())
        for i, user in enumerate(whole.user_id.tolist())
    }
    assert got == {user: sorted(ids) for user, ids in want.items()}
    assert folder.exists() == (limit == 0)
    assert not folder.exists() or list(folder.iterdir()) == [], "the file has no name"
    assert isinstance(portions.cursors()[0], Cursor)
