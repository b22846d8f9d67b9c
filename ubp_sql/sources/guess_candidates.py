"""How well a column would do as one part of an event: by its name, corrected by its values."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ubp_sql.sources import guess_names
from ubp_sql.sources.guess_values import Column, shown

ENOUGH, MARGIN = 0.5, 0.12  # a lower score is not taken; a rival as near as that leaves it open
SURE, LIKELY, GUESS = "sure", "likely", "a guess"


_YES_OR_NO = {"true", "false", "yes", "no", "y", "n"}


@dataclass(frozen=True)
class Candidate:
    score: float
    column: Column
    why: str

    @property
    def sure(self) -> str:
        return SURE if self.score >= 0.85 else LIKELY if self.score >= 0.65 else GUESS


def _key(part: str, column: Column) -> Candidate | None:
    if not column.key_like:
        return None
    score, why = guess_names.score(part, column.name), "its name"
    if column.refers_to and (referred := guess_names.score(part, column.refers_to)) > 0:
        score, why = max(score, referred + 0.05), f"a foreign key to {shown(column.refers_to)}"
    if not score:
        return None
    if column.worded:
        score, why = score - 0.25, f"{why}; texts of several words"
    if part == "user":
        if column.all_different and len(column.present) >= 50:
            return Candidate(score - 0.4, column, "its name, but no value comes twice")
        if column.missing > 0.5:
            score, why = score - 0.3, f"{why}; most rows have none"
        why += f"; {column.distinct:,} different in {len(column.present):,} rows"
    return Candidate(min(score, 1.0), column, why)


def _event_key(part: str, column: Column) -> Candidate | None:
    if not column.key_like or not (column.unique or column.all_different) or column.time is not None:
        return None
    score = guess_names.score(part, column.name)
    if column.unique:
        return Candidate(max(score, 0.9), column, "a unique index")
    return Candidate(score, column, "its name; no value comes twice") if score >= 0.75 else None


def _kind(part: str, column: Column) -> Candidate | None:
    if not column.few_words or (column.time is not None and column.numbers is None):
        return None
    name = guess_names.score(part, column.name)
    if column.numbers is not None:
        return Candidate(name - 0.2, column, "its name") if name >= 0.85 and column.distinct <= 20 else None
    if column.sql_type == "boolean" or {word.lower() for word in column.counts} <= _YES_OR_NO:
        return None
    events = sum(rows for word, rows in column.counts.items() if guess_names.event_like(word)) / len(column.present)
    if guess_names.tokens(column.name)[-1:] in (["status"], ["state"], ["category"], ["name"]):
        return None  # a status is what became of an event
    if events >= 0.5:
        return Candidate(min(1.0, max(0.7, name + 0.25)), column, "names of events")
    return Candidate(name - 0.1, column, "its name")


def _numeric(part: str, column: Column) -> Candidate | None:
    if column.numbers is None or column.sql_type in ("boolean", "uuid"):
        return None
    score = guess_names.score(part, column.name)
    return Candidate(score, column, "its name") if score else None


def _moment(part: str, column: Column) -> Candidate | None:
    form = column.time
    if form is None:
        return None
    late = guess_names.score("ingested_at", column.name)
    if part == "ingested_at":
        if column.now_by_default and not late:
            return Candidate(0.6, column, "now() by default, and another column has the event's time")
        return Candidate(late, column, "its name") if late else None
    name = guess_names.score("event_time", column.name)
    if form.number and column.sql_type not in (None, "bigint", "numeric", "double precision"):
        return None
    score = 0.6 + 0.35 * name - 0.05 * form.daily
    if form.number:  # any column of ids may look so
        score = 0.55 + 0.4 * name if name else 0.52 if nameless(column.name) else 0.3
    if guess_names.beside_the_event(column.name) and not name:
        score -= 0.3
    return Candidate(score - 0.35 * bool(late), column, "its name" if name else "its values")


def nameless(name: str) -> bool:
    """c1, c2, ... of a file without names."""
    return re.fullmatch(r"c\d+", name) is not None


def same_thing(one: Column, other: Column) -> bool:
    """Do the two tell the same rows apart, such as an id and a number of the same customer?"""
    pairs = {(a, b) for a, b in zip(one.values, other.values, strict=True) if a is not None and b is not None}
    return len(pairs) > 1 and len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def cancelled(order: Column, signed: Column) -> str | None:
    """The letter that marks cancelled orders: all others are plain numbers, and its rows have negative quantities."""
    if signed.numbers is None or order.sql_type not in (None, "text"):
        return None
    letters = Counter(value[0] for value in order.counts if value[0].isalpha() and value[1:].isdigit())
    if not letters:
        return None
    letter = letters.most_common(1)[0][0]
    numeric = sum(value.isdigit() for value in order.counts)
    signs = [s for o, s in zip(order.values, signed.values, strict=True) if o is not None and o[0] == letter and s]
    negative = sum(sign.strip().startswith("-") for sign in signs)
    return letter if numeric > 0.8 * order.distinct and negative >= 0.95 * len(signs) > 0 else None


Judge = Callable[[str, Column], Candidate | None]
JUDGES: dict[str, Judge] = {
    "user": _key, "item": _key, "order_id": _key, "event_key": _event_key, "kind": _kind, "event_time": _moment,
    "ingested_at": _moment, "total": _numeric, "unit": _numeric, "quantity": _numeric, "duration_s": _numeric,
}  # fmt: skip
