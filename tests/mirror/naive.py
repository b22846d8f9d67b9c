"""What a mirror must hold, by plain Python: runs as lists of entries, merged with sort and dict."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """An event; the order of its fields is the order of events, then what it carries."""

    user: int
    t: int
    ingested: int
    event_id: int
    value: float = 0.0


class Entry(NamedTuple):
    """What a run holds of a user."""

    complete: bool
    rows: list[Row]


Run = dict[int, Entry]


def merged(runs: Sequence[Run]) -> Run:
    """Runs from the oldest to the newest as one."""
    result: Run = {}
    for run in runs:
        for user, entry in run.items():
            old = result.get(user, Entry(False, []))
            rows = list(entry.rows) if entry.complete else [*old.rows, *entry.rows]
            result[user] = Entry(entry.complete or old.complete, _once(rows))
    return result


def _once(rows: list[Row]) -> list[Row]:
    first: dict[tuple[int, ...], Row] = {}
    for row in rows:
        first.setdefault(row[:4], row)
    return [first[key] for key in sorted(first)]
