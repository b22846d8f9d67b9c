"""Standings of the population (features/standing.py): out of ubp.standings, or counted from everybody's events.

One is counted at its first use. Functions that write record it, for everybody and for good; others keep it to their
session, for as long as nothing it was counted from changes. Sets without such features never come here.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.ageing import ANCHORS, ENTRY, FORMULAS, TABLE
from ubp_sql.api.mirror_store import LOCK_SHARED
from ubp_sql.api.session import prepare_numba, run, single
from ubp_sql.errors import NotReady
from ubp_sql.features.standing import (
    ITEM_POPULARITY,
    Place,
    Standing,
    day_of,
    finish_rows,
    finished_row,
    opened,
    packed,
)
from ubp_sql.kernels.codes import DAY_US, FormulaColumn

if TYPE_CHECKING:
    from ubp_sql.api.moments import FeatureSet
    from ubp_sql.features.compute import Rows
    from ubp_sql.kernels.dispatch import I64

# What of the log could be about the day: an event that happened before it, or anything but new events.
STATE = """
select (select string_agg(t.position || ' ' || t.recorded_at, ',' order by t.position) from ubp.standings t
         where t.feature_set_id = $1 and t.day = date '1970-01-01' + $2) as recorded,
       (select count(*) from ubp.standings t
         where t.feature_set_id = $1 and t.day = date '1970-01-01' + $2 and t.position = any ($3)) as n,
       m.version, m.folded_at::text as folded_at,
       (select max(l.log_id) from ubp.event_log l
         where l.op <> 'I' or l.min_time is null or l.min_time < to_timestamp(86400.0 * $2)) as newest,
       (select max(a.event_id) from ubp.anonymous_events a) as anonymous
  from ubp.mirror_state m"""
READ = """
select t.position, t.n, t.keys, t.results from ubp.standings t
 where t.feature_set_id = $1 and t.day = date '1970-01-01' + $2 and t.position = any ($3) order by t.position"""
# Events without a user lie outside of the mirror and its log.
ANONYMOUS = """
select a.item_id::double precision as item, count(*) as n from ubp.anonymous_events a
 where a.kind = any ($1) and a.item_id is not null and a.ingested_at <= to_timestamp(86400.0 * $2)
   and a.event_time >= to_timestamp(86400.0 * $2) - $3 * interval '1 microsecond'
   and a.event_time < to_timestamp(86400.0 * $2) group by 1 order by 1"""
COMPLETE = """
select t.day - date '1970-01-01' as day from ubp.standings t
 where t.feature_set_id = $1 and t.position = any ($2) group by t.day having count(*) = cardinality($2)"""
STORE = """
insert into ubp.standings (feature_set_id, position, day, n, keys, results)
values ($1, $2, date '1970-01-01' + $3, $4, $5, $6) on conflict do nothing"""
STORE_TYPES = ["integer", "integer", "integer", "bigint", "bytea", "bytea"]
LIMITED = "select row_security_active('ubp.events') as limited"
MOST_BYTES = 64 << 20
"""Of standings that a session keeps: of recorded ones, and of others."""


class Standings(NamedTuple):
    """What of a set needs standings.

    hash    of the set: a day's standings are those of all its places
    places  its features, in row order
    """

    feature_set_id: int
    hash: str
    places: tuple[Place, ...]

    @property
    def positions(self) -> list[int]:
        """As ubp.standings counts them, from 1."""
        return [place.position + 1 for place in self.places]


class _Kept:
    """Standings of days, those used last."""

    def __init__(self) -> None:
        self._days: OrderedDict[tuple[int, str, int], tuple[object, list[Standing]]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[int, str, int], token: object) -> list[Standing] | None:
        found = self._days.get(key)
        if found is None or found[0] != token:
            return None
        self._days.move_to_end(key)
        return found[1]

    def put(self, key: tuple[int, str, int], token: object, standings: list[Standing]) -> None:
        self._drop(key)
        self._days[key] = token, standings
        self._bytes += _size(standings)
        while self._bytes > MOST_BYTES and len(self._days) > 1:
            self._drop(next(iter(self._days)))

    def _drop(self, key: tuple[int, str, int]) -> None:
        if key in self._days:
            self._bytes -= _size(self._days.pop(key)[1])


def _size(standings: Sequence[Standing]) -> int:
    return sum(standing.size for standing in standings)


def of_set(found: "FeatureSet") -> Standings:
    """What of a set needs standings."""
    definition = found.definition
    read = definition.plan.formulas[:, FormulaColumn.A]
    anchors = {int(cell): place for place, cell in enumerate(definition.plan.anchors)}
    places = [
        Place(f.position, f.family, anchors[int(read[f.position])] if f.family == ITEM_POPULARITY else -1)
        for f in definition.standings
    ]
    return Standings(found.feature_set_id, definition.hash, tuple(places))


def of_plan(
    feature_set_id: int, hash_: str, blob: bytes, positions: Sequence[int], families: Sequence[str]
) -> Standings:
    """The same from an opened plan (live_plan.LivePlan.blob), without the definition.

    positions  of the features, from 1; families: their aggregates
    """
    words = struct.Struct("=3q")
    formulas, _, width = words.unpack_from(blob, TABLE + ENTRY * FORMULAS)
    offset, n, _ = words.unpack_from(blob, TABLE + ENTRY * ANCHORS)
    anchors = struct.unpack_from(f"={n}q", blob, offset)
    places = []
    for position, family in zip(positions, families, strict=True):
        (cell,) = struct.unpack_from("=q", blob, formulas + 8 * (width * (position - 1) + FormulaColumn.A))
        places.append(Place(position - 1, family, anchors.index(cell) if family == ITEM_POPULARITY else -1))
    return Standings(feature_set_id, hash_, tuple(places))


def finish(
    plpy: Any, memory: dict[Any, Any], found: Standings, as_of_us: int, row: bytes, anchors: Sequence[float]
) -> bytes:
    """One user's row, float32 in machine order, of what the kernel gave; no NumPy where the day is known."""
    return finished_row(row, anchors, found.places, _of_day(plpy, memory, found, day_of(as_of_us)))


def finish_all(plpy: Any, memory: dict[Any, Any], found: "FeatureSet", rows: "Rows", as_of_us: "I64") -> None:
    """Rows at (p,) moments as the kernel gave them, in place."""
    if not found.definition.standings or not len(as_of_us):
        return
    import numpy as np

    asked = of_set(found)
    days = as_of_us // DAY_US
    different = np.unique(days).tolist()
    if len(different) > 1:
        keep(plpy, memory, asked, different)
    order = np.argsort(days, kind="stable")
    ends = np.searchsorted(days[order], different, "right").tolist()
    for day, low, high in zip(different, [0, *ends[:-1]], ends, strict=True):
        standings = _of_day(plpy, memory, asked, day)
        finish_rows(rows.features, rows.anchors, asked.places, standings, order[low:high])


def record(plpy: Any, memory: dict[Any, Any], found: "FeatureSet", days: Iterable[int]) -> None:
    """Counts and writes what is not recorded yet of these days since 1970; for functions that may write."""
    asked = of_set(found)
    missing = _not_recorded(plpy, memory, asked, days)
    if missing:
        # Each batch is read in a snapshot of its own: no chunk of the mirror may go in between.
        run(plpy, memory, LOCK_SHARED, [], [])
    for day, standings in _counted(plpy, memory, found, missing):
        for position, standing in zip(asked.positions, standings, strict=True):
            raw = [packed(standing.keys), packed(standing.results)]
            run(plpy, memory, STORE, STORE_TYPES, [asked.feature_set_id, position, day, standing.n, *raw])


def _of_day(plpy: Any, memory: dict[Any, Any], found: Standings, day: int) -> list[Standing]:
    """In the order of the set's places."""
    recorded, token = _state(plpy, memory, found, day)
    kept = _kept(memory, recorded=recorded)
    key = found.feature_set_id, found.hash, day
    standings = kept.get(key, token)
    if standings is None:
        there = _read(plpy, memory, found, day)
        if len(there) < len(found.places):
            ((_, counted),) = _counted(plpy, memory, _definition(plpy, memory, found), [day])
            there = {**dict(zip(found.positions, counted, strict=True)), **there}
        standings = list(there.values())
        kept.put(key, token, standings)
    return standings


def _state(plpy: Any, memory: dict[Any, Any], found: Standings, day: int) -> tuple[bool, object]:
    """Whether a day is recorded, and what changes when its standings do."""
    row = single(plpy, memory, STATE, ["integer", "integer", "integer[]"], [found.feature_set_id, day, found.positions])
    assert row is not None  # noqa: S101 - the mirror's state has one row
    if row["n"] == len(found.places):
        return True, row["recorded"]
    return False, tuple(row.values())


def _kept(memory: dict[Any, Any], *, recorded: bool) -> _Kept:
    kept: _Kept = memory.get(("standings", recorded)) or memory.setdefault(("standings", recorded), _Kept())
    return kept


def _read(plpy: Any, memory: dict[Any, Any], found: Standings, day: int) -> dict[int, Standing]:
    """By position."""
    rows = run(plpy, memory, READ, ["integer", "integer", "integer[]"], [found.feature_set_id, day, found.positions])
    families = {place.position + 1: place.family for place in found.places}
    return {row["position"]: opened(families[row["position"]], row["n"], row["keys"], row["results"]) for row in rows}


def keep(plpy: Any, memory: dict[Any, Any], found: Standings, days: Sequence[int]) -> None:
    """Counts for the session, in as few passes as its memory allows, what nobody recorded of several days.

    Raises NotReady (UB005) where that is more than a session keeps.
    """
    kept = _kept(memory, recorded=False)
    tokens = {day: _state(plpy, memory, found, day)[1] for day in _not_recorded(plpy, memory, found, days)}
    missing = [day for day, token in tokens.items() if kept.get((found.feature_set_id, found.hash, day), token) is None]
    if not missing:
        return
    size = 0
    for day, standings in _counted(plpy, memory, _definition(plpy, memory, found), missing):
        size += _size(standings)
        if size > MOST_BYTES:
            raise NotReady(
                f"the population of {len(missing)} days is not recorded, and a session keeps no more than"
                f" {MOST_BYTES >> 20} MB of it",
                "ubp.training_set records it; or ask for fewer moments",
            )
        there = _read(plpy, memory, found, day)
        both = {**dict(zip(found.positions, standings, strict=True)), **there}
        kept.put((found.feature_set_id, found.hash, day), tokens[day], list(both.values()))


def _not_recorded(plpy: Any, memory: dict[Any, Any], found: Standings, days: Iterable[int]) -> list[int]:
    rows = run(plpy, memory, COMPLETE, ["integer", "integer[]"], [found.feature_set_id, found.positions])
    return sorted(set(days) - {row["day"] for row in rows})


def _counted(
    plpy: Any, memory: dict[Any, Any], found: "FeatureSet", days: Sequence[int]
) -> Iterator[tuple[int, list[Standing]]]:
    """(day, standings of the set's places) from all events, as they are known now of each day's start."""
    if not days:
        return
    limited = single(plpy, memory, LIMITED, [], [])
    if limited is not None and limited["limited"]:
        raise NotReady(
            f"the population at {_shown(days[0])} is not recorded, and this role does not see all events",
            f"select * from ubp.refresh_features('{_shown(days[0])}', '{found.name}') records it",  # noqa: S608 - a hint
        )
    prepare_numba()
    import numpy as np

    from ubp_sql.api.events import read_all
    from ubp_sql.api.session import touch
    from ubp_sql.features.census import Census

    def pause() -> None:
        touch(plpy, memory)

    holidays = np.array(found.holidays, np.int64)
    todo = list(days)
    while todo:
        census = Census(found.definition, todo)
        known_us = todo[0] * DAY_US
        for events in read_all(plpy, memory, found.definition.kinds, census.columns, known_at_us=known_us):
            census.add(events, holidays, pause)
        for feature in census.counted:
            for day in list(census.days):
                asked = [list(feature.spec.kinds), day, feature.spec.window.width_us]
                if rows := run(plpy, memory, ANONYMOUS, ["text[]", "integer", "bigint"], asked):
                    items = np.array([row["item"] for row in rows], np.float64)
                    census.add_counts(day, feature.position, items, np.array([row["n"] for row in rows], np.int64))
        todo = todo[len(census.days) :]
        standings: list[Standing] = []
        for day, _, standing in census.standings(pause):
            standings.append(standing)
            if len(standings) == len(found.definition.standings):
                yield day, standings
                standings = []


def _definition(plpy: Any, memory: dict[Any, Any], found: Standings) -> "FeatureSet":
    """With what a session that finishes stored or native rows has not loaded."""
    from ubp_sql.api.moments import feature_set

    return feature_set(plpy, memory, found.feature_set_id)


def _shown(day: int) -> str:
    from datetime import date

    return f"{date.fromordinal(date(1970, 1, 1).toordinal() + day)} 00:00+00"
