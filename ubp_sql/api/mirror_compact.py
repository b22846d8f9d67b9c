"""Compaction: runs merged into one, so that a read has few of them to merge."""

from collections.abc import Sequence
from typing import Any

from ubp_sql.api import mirror_store as store
from ubp_sql.api.heap import declared_columns
from ubp_sql.api.session import single

MOST_OF_A_TIER = 3
"""Runs of about the same size that stay apart."""
TIER = 4
"""A tier's runs are up to so many times the size of the tier below."""
SMALLEST = 16_384
UNKNOWN_SOURCES = "select bool_or(unknown_sources) as found from ubp.mirror_runs where run_id = any ($1)"


def tier(events: int) -> int:
    """Size class of a run."""
    size, level = SMALLEST, 0
    while events > size:
        size *= TIER
        level += 1
    return level


def due(runs: Sequence[store.Run]) -> int:
    """How many of the newest runs are to become one: those from the first of a tier that holds too many."""
    tiers = [tier(found.events) for found in runs]
    full = [level for level in set(tiers) if tiers.count(level) > MOST_OF_A_TIER]
    return len(runs) - tiers.index(min(full)) if full else 0


def compact(plpy: Any, memory: dict[str, Any], *, fully: bool = False) -> int:
    """Merges what `due` names, or all runs; returns how many runs went into others. The lock is held."""
    gone = 0
    while True:
        runs = store.runs(plpy, memory)
        count = len(runs) if fully else due(runs)
        if count < 2:
            return gone
        _merge(plpy, memory, runs[-count:], oldest=count == len(runs))
        gone += count
        fully = False


def _merge(plpy: Any, memory: dict[str, Any], runs: Sequence[store.Run], *, oldest: bool) -> None:
    from ubp_sql.mirror.layout import BASE
    from ubp_sql.mirror.merge import merged
    from ubp_sql.mirror.spill import TOGETHER

    declared = declared_columns(plpy, memory)
    names = [*BASE, *(column.name for column in declared)]
    ids = [found.run_id for found in runs]
    unknown = single(plpy, memory, UNKNOWN_SOURCES, ["bigint[]"], [ids])
    cursors = [
        store.cursor(plpy, memory, store.metas(plpy, memory, run_id), names, declared, TOGETHER // len(ids))
        for run_id in ids
    ]
    # Places are whole numbers and the merged runs' own are about to go, so the new one comes after the last of them.
    writer = store.RunWriter(
        plpy, memory, "compact", declared, oldest=oldest, unknown_sources=bool(unknown and unknown["found"])
    )
    for block in merged(cursors):
        writer.add(block)
    writer.close()
    store.delete_runs(plpy, memory, ids)
    store.changed(plpy, memory, built=True)
