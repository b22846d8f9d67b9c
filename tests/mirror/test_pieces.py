"""Slices of chunks: what is found and put together is what whole chunks hold of the same users."""

from typing import Any

import numpy as np
import pytest

from ubp_sql.features.columns import Declared
from ubp_sql.mirror import pieces as module
from ubp_sql.mirror.encode import FORM_BYTES, STORED, Cutter, Meta, decode, encode
from ubp_sql.mirror.layout import BASE, Block, dtype_of, starts

DECLARED = [Declared("paid", "paid", "number"), Declared("channel", "channel", "text"), Declared("said", "w", "words")]
NAMES = [*BASE, *(column.name for column in DECLARED)]
PLACES = np.array([-1, 0, 2, 1], np.int32)


def chunks_of(draw: np.random.Generator) -> list[tuple[Meta, dict[str, Any]]]:
    """Some 40 users in chunks of 16 events: users without events, one with many, columns that some chunks lack."""
    sizes = draw.choice([0, 1, 3, 9], 40)
    sizes[draw.integers(40)] = 70
    n = int(sizes.sum())
    columns = {name: draw.integers(1, 4, n).astype(dtype_of(name, DECLARED)) for name in NAMES}
    columns["kind"][: n // 2] = 3
    for name in ("item", "value", "paid", "channel", "said", "ingested", "order"):
        missing = {"ingested": columns["t"], "order": columns["t"], "said": 0}.get(name)
        if missing is None:
            missing = np.nan if columns[name].dtype.kind == "f" else np.iinfo(np.int64).min
        columns[name][n // 3 :] = missing[n // 3 :] if isinstance(missing, np.ndarray) else missing
    users = np.cumsum(draw.integers(1, 4, 40))
    made: list[tuple[Meta, dict[str, Any]]] = []

    def write(block: Block, part: int) -> None:
        row = encode(block, DECLARED) | {"chunk_id": 100 + len(made), "part": part}
        made.append((Meta(*(row[name] for name in Meta._fields)), row))

    cutter = Cutter(write, 16)
    cutter.add(Block(users, starts(sizes), draw.random(40) < draw.choice([0.0, 0.5, 1.0]), columns))
    cutter.close()
    return made


def answer(pieces: module.Pieces, chunks: list[tuple[Meta, dict[str, Any]]]) -> module.Answer:
    """What the server would send."""
    rows = {meta.chunk_id: row for meta, row in chunks}
    marks, sent = b"", dict.fromkeys(NAMES, b"")
    for chunk_id, begin, n in zip(pieces.chunk_id.tolist(), pieces.begin, pieces.n, strict=True):
        mark = 0
        for bit, name in enumerate(NAMES):
            row, place = rows[chunk_id], NAMES.index(name) - len(BASE)
            raw = row[STORED.get(name, name)] if place < 0 else row["extras"][place]
            if raw is not None:
                width = rows[chunk_id]["forms"][FORM_BYTES * NAMES.index(name)]
                mark |= 1 << bit
                sent[name] += raw[width * begin : width * (begin + n)]
        marks += mark.to_bytes(4, "big")
    return module.Answer(marks, sent)


@pytest.mark.parametrize("gap", [0, 4, 1000])
@pytest.mark.parametrize("seed", range(12))
def test_as_whole_chunks(monkeypatch: pytest.MonkeyPatch, seed: int, gap: int) -> None:
    monkeypatch.setattr(module, "GAP_EVENTS", gap)
    draw = np.random.default_rng(seed)
    chunks = chunks_of(draw)
    wanted = np.unique(draw.integers(0, 110, draw.choice([1, 10, 100])))
    half = len(chunks) // 2
    parts = [module.find(module.Directory.of(some), wanted) for some in (chunks[:half], chunks[half:])]
    pieces = module.together(parts)
    found = module.block_of(pieces, [answer(pieces, chunks)], DECLARED, PLACES)
    whole = decode(sum(meta.n for meta, _ in chunks), chunks, NAMES, DECLARED, places=PLACES)
    whole = whole.take(np.isin(whole.user_id, wanted))
    assert found.user_id.tolist() == whole.user_id.tolist()
    assert found.first.tolist() == whole.first.tolist()
    assert found.complete.tolist() == whole.complete.tolist()
    for name, column in whole.columns.items():
        assert found.columns[name].dtype == column.dtype
        assert found.columns[name].tobytes() == column.tobytes(), name
