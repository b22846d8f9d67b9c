"""The mirror's SQL functions: build, drop, rebuild, compact; declared columns. `fold` is what a refresh calls."""

import time
from typing import Any

from ubp_sql.api import mirror_store as store
from ubp_sql.api.mirror_compact import compact
from ubp_sql.api.mirror_fold import Folded, fold
from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.errors import BadInput
from ubp_sql.features.columns import CLOCK, EVERY_RULE, KEYS, NUMBERS, SUBJECTS, TYPES

__all__ = [
    "Folded",
    "build_mirror",
    "compact_mirror",
    "define_event_column",
    "drop_mirror",
    "fold",
    "rebuild_mirror",
]

ENABLE = "update ubp.mirror_state set enabled = $1 where enabled <> $1"
REPRESENT = "insert into ubp.event_log (op) values ($1)"
FIGURES = """
select s.built, s.version, count(r.run_id)::integer as runs, coalesce(sum(r.events), 0)::bigint as events,
       (select count(*) from ubp.mirror_chunks)::integer as chunks
  from ubp.mirror_state s left join ubp.mirror_runs r on true group by s.singleton"""
RESERVED = {*NUMBERS, *KEYS, *CLOCK, "t", "ingested", "event_id", "kind", "offset_s", "user_id", "time"}
COLUMN = 'select attribute, type, "of" from ubp.event_columns where name = $1'
RULE = "select rule from ubp.quality_rules where rule = $1"
NEW_COLUMN = 'insert into ubp.event_columns (name, attribute, type, "of") values ($1, $2, $3, $4)'
MOST_CHARS = 48


@entry
def build_mirror(plpy: Any, memory: dict[str, Any]) -> list[Row]:
    """Builds what is missing: folds the log in, or makes the mirror where there is none."""
    return _made(plpy, memory, anew=False)


@entry
def rebuild_mirror(plpy: Any, memory: dict[str, Any]) -> list[Row]:
    """Makes the mirror from all events, whatever it held, and has all features computed anew."""
    return _made(plpy, memory, anew=True)


def _made(plpy: Any, memory: dict[str, Any], *, anew: bool) -> list[Row]:
    check_version(plpy, memory)
    started = time.perf_counter()
    run(plpy, memory, store.LOCK, [], [])
    run(plpy, memory, ENABLE, ["boolean"], [True])
    if anew:
        run(plpy, memory, REPRESENT, ["text"], ["T"])
    fold(plpy, memory)
    return _figures(plpy, memory, started)


@entry
def compact_mirror(plpy: Any, memory: dict[str, Any]) -> list[Row]:
    """Folds the log in and merges all runs into one."""
    check_version(plpy, memory)
    started = time.perf_counter()
    fold(plpy, memory)
    compact(plpy, memory, fully=True)
    return _figures(plpy, memory, started)


@entry
def drop_mirror(plpy: Any, memory: dict[str, Any]) -> None:
    """Removes the mirror; none is built until ubp.build_mirror()."""
    check_version(plpy, memory)
    run(plpy, memory, store.LOCK, [], [])
    run(plpy, memory, ENABLE, ["boolean"], [False])
    store.delete_runs(plpy, memory, [found.run_id for found in store.runs(plpy, memory)])
    store.changed(plpy, memory, built=False)


@entry
def define_event_column(
    plpy: Any, memory: dict[str, Any], name: str | None, attribute: str | None, type: str | None, of: str | None
) -> None:
    """Declares an attribute of events, or of their items, as a column; the same declaration again changes nothing.

    Raises BadInput (UB003) on a name that is taken or no plain word, and on an unknown type or subject.
    """
    check_version(plpy, memory)
    if not name or len(name) > MOST_CHARS or not name.isascii() or not name.isidentifier() or name != name.lower():
        raise BadInput(
            f"{name!r} cannot be the name of a column", f"lower-case letters, digits, _, at most {MOST_CHARS}"
        )
    if name in RESERVED:
        raise BadInput(f"every event has {name} already", "choose another name")
    if not attribute:
        raise BadInput("no attribute was named", "the key in events.attributes, or the name in ubp.item_attributes")
    if type not in TYPES:
        raise BadInput(f"{type!r} is no type of a column", f"one of {', '.join(TYPES)}")
    if of not in SUBJECTS:
        raise BadInput(f"a column cannot be of {of!r}", f"one of {', '.join(SUBJECTS)}")
    if of == "flag" and type != "number":
        raise BadInput(f"a flag cannot be {type!r}", "it is a number: how many findings speak of the event")
    if of == "flag" and attribute != EVERY_RULE and single(plpy, memory, RULE, ["text"], [attribute]) is None:
        raise BadInput(f"there is no rule {attribute!r}", f"a rule of ubp.quality_rules, or {EVERY_RULE} for any")
    run(plpy, memory, store.LOCK, [], [])
    found = single(plpy, memory, COLUMN, ["text"], [name])
    if found is not None:
        if (found["attribute"], found["type"], found["of"]) == (attribute, type, of):
            return
        what = f"{name} is {found['attribute']!r}{' of the item' * (found['of'] == 'item')} as {found['type']}"
        raise BadInput(f"event column {what} already", "choose another name: sets may use this one")
    run(plpy, memory, NEW_COLUMN, ["text"] * 4, [name, attribute, type, of])
    if store.state(plpy, memory).built:
        run(plpy, memory, REPRESENT, ["text"], ["R"])


def _figures(plpy: Any, memory: dict[str, Any], started: float) -> list[Row]:
    row = single(plpy, memory, FIGURES, [], []) or {}
    seconds = time.perf_counter() - started
    return [{"events": row["events"], "runs": row["runs"], "chunks": row["chunks"], "seconds": seconds}]
