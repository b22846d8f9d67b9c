"""Which column is which part of an event: candidates by name and by values, taken where one is clearly the best."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ubp_sql.sources import guess_names
from ubp_sql.sources.guess_candidates import (
    ENOUGH,
    GUESS,
    JUDGES,
    LIKELY,
    MARGIN,
    SURE,
    Candidate,
    cancelled,
    same_thing,
)
from ubp_sql.sources.guess_values import Column, shown

UNTOLD, NONE = "cannot tell", "none"
_KINDS_SHOWN = 6
_MOST_ATTRIBUTES, _FEW_ATTRIBUTES = 12, 200


@dataclass(frozen=True)
class Part:
    """One part of the event.

    value      an expression, {"constant": KIND} or [{KIND: condition}]; None where it is untold or there is none
    choices    what it may be where that cannot be told
    """

    name: str
    value: Any
    sure: str
    why: str
    examples: list[str] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)


TimeSql = Callable[[Column, str], str]
"""The expression for a column read through a template of TimeForm."""


class Parts:
    """The parts of an event found among `columns` of a file or table called `subject`."""

    def __init__(
        self,
        columns: Sequence[Column],
        subject: str,
        *,
        named: bool,
        time_sql: TimeSql | None = None,
        without: Collection[str] = (),
    ) -> None:
        """named: the columns have names of their own, not c1, c2, ...; without: parts that are not looked for."""
        self._columns = [column for column in columns if column.present or column.sql_type is not None]
        self._subject, self._named, self._without = subject, named, without
        self._time_sql = time_sql or _map_time
        self._taken: dict[str, Candidate] = {}
        self._rivals: dict[str, list[Candidate]] = {}
        self._used: set[int] = set()
        self._assign()
        self.notes: list[str] = []
        self.userless = 0.0  # share of the rows without a user
        value = self._value()
        self.parts = [self._user(), self._time("event_time"), self._kind(value), self._plain("item"), value]
        self.parts += [self._number("quantity"), self._duration(), self._plain("order_id"), self._time("ingested_at")]
        self.keys = self._plain("event_key")
        self._look_at_rows()

    def _assign(self) -> None:
        """Every column to the part that it scores best for, best scores first."""
        every = {
            part: [found for column in self._columns if (found := judge(part, column)) and found.score > 0]
            for part, judge in JUDGES.items()
            if part not in self._without
        }
        moments = every["event_time"]
        if any(c.column.time and not c.column.time.daily and c.score >= 0.6 for c in moments):
            every["event_time"] = [replace(c, score=c.score - 0.15) if _daily(c.column) else c for c in moments]
        order = sorted(((c.score, part, c) for part, found in every.items() for c in found), key=lambda t: -t[0])
        for score, part, candidate in order:
            if score >= ENOUGH and part not in self._taken and id(candidate.column) not in self._used:
                self._taken[part] = candidate
                self._used.add(id(candidate.column))
        for part, best in self._taken.items():
            least = max(ENOUGH, best.score - MARGIN)
            free = [c for c in every[part] if id(c.column) not in self._used and c.score > least]
            near = [c for c in free if not same_thing(best.column, c.column)]
            self._rivals[part] = sorted(near, key=lambda c: -c.score)

    def _untold(self, part: str, choices: list[Any], why: str, examples: Sequence[str] = ()) -> Part:
        self._taken.pop(part, None)
        return Part(part, None, UNTOLD, why, list(examples), choices)

    def _chosen(self, part: str) -> Part | Candidate | None:
        """The candidate; or the Part that says that it cannot be told; or None where there is none."""
        best, rivals = self._taken.get(part), self._rivals.get(part)
        if best is not None and rivals:
            names = [best, *rivals[:3]]
            why = f"{' or '.join(shown(c.column.name) for c in names)}?"
            examples = [f"{shown(c.column.name)}: {', '.join(c.column.examples(2))}" for c in names]
            return self._untold(part, [c.column.plain for c in names], why, examples)
        return best

    def _user(self) -> Part:
        best = self._chosen("user")
        if isinstance(best, Part):
            return best
        if best is None:
            free = [c for c in self._columns if id(c) not in self._used and c.key_like and c.repeats and c.distinct > 5]
            free.sort(key=lambda c: -c.distinct)
            if len(free) != 1 or self._named:
                why = "no column is named like a user"
                if not self._named:
                    why = "columns without names, more than one may be it"
                if not free:
                    why = "no column could be a user's key"
                return self._untold("user", [c.plain for c in free[:6]], why)
            best = self._taken["user"] = Candidate(0.5, free[0], "the only column that repeats like a key")
            self._used.add(id(free[0]))
        self.userless = best.column.missing
        numbers = best.column.numbers
        whole = "; integers written as 17850.0" if numbers and "." in best.column.present[0] else ""
        return Part("user", best.column.plain, best.sure, best.why + whole, best.column.examples())

    def _plain(self, part: str) -> Part:
        best = self._chosen(part)
        if isinstance(best, Part):
            return best
        if best is None:
            return Part(part, None, NONE, "")
        return Part(part, best.column.plain, best.sure, best.why, best.column.examples())

    def _time(self, part: str) -> Part:
        best = self._chosen(part)
        if isinstance(best, Part):
            return best
        if best is None or best.column.time is None:
            why = "no column holds times" if part == "event_time" else ""
            return Part(part, None, UNTOLD if part == "event_time" else NONE, why)
        column, form = best.column, best.column.time
        if form.daily and len(form.readings) == 1 and part == "event_time" and (joined := self._with_clock(column)):
            return joined
        if not form.zoned:
            self.notes.append(f"{shown(column.name)} names no time zone: set time_zone if it is not UTC")
        if len(form.readings) > 1:
            choices = [self._time_sql(column, template) for template, _ in form.readings]
            return Part(part, None, UNTOLD, f"{shown(column.name)}: {form.why}", column.examples(), choices)
        sure = LIKELY if best.sure == SURE and form.sure != SURE else best.sure
        expression = self._time_sql(column, form.readings[0][0])
        return Part(part, expression, sure, f"{best.why}; {form.why}", column.examples())

    def _with_clock(self, day: Column) -> Part | None:
        """A day and, in another column, the time of day."""
        clocks = [c for c in self._columns if c.clock and id(c) not in self._used]
        form = day.time
        if len(clocks) != 1 or form is None or form.pattern is None:
            return None
        clock = clocks[0]
        self._used.add(id(clock))
        both = f"{day.cleaned} || ' ' || {clock.cleaned}"
        self.notes.append(
            f"{shown(day.name)} and {shown(clock.name)} name no time zone: set time_zone if it is not UTC"
        )
        if day.sql_type == "date" and (clock.sql_type or "").startswith("time"):
            expression = f"{day.word} + {clock.word}"
        elif form.readings[0][0] == "{}" and "AM" not in (clock.clock or ""):
            expression = both
        else:
            expression = f"to_timestamp({both}, '{form.pattern} {clock.clock}')"
        examples = [f"{d} {c}" for d, c in zip(day.examples(), clock.examples(), strict=False)]
        return Part("event_time", expression, LIKELY, f"the day and the time of day; {form.why}", examples)

    def _number(self, part: str) -> Part:
        best = self._chosen(part)
        if isinstance(best, Part):
            return best
        if best is None or best.column.numbers is None:
            return Part(part, None, NONE, "")
        numbers = best.column.numbers
        if numbers.doubt:
            choices = [best.column.number, f"replace({best.column.cleaned}, ',', '')::numeric"]
            return self._untold(part, choices, f"{shown(best.column.name)}: {numbers.doubt}")
        why = best.why + (f"; {numbers.why}" if numbers.why else "")
        return Part(part, _number_alone(best.column), best.sure, why, best.column.examples())

    def _duration(self) -> Part:
        best = self._taken.get("duration_s")
        part = self._number("duration_s")
        if part.value is None or best is None:
            clocks = [c for c in self._columns if c.clock and guess_names.score("duration_s", c.name) >= ENOUGH]
            if part.sure == NONE and len(clocks) == 1 and id(clocks[0]) not in self._used:
                self._used.add(id(clocks[0]))
                expression = f"extract(epoch from {clocks[0].cleaned}::interval)"
                return Part("duration_s", expression, LIKELY, "hours and minutes by its name", clocks[0].examples())
            return part
        seconds = guess_names.seconds_of(best.column.name)
        if seconds is None:
            return Part("duration_s", part.value, GUESS, f"{part.why}; taken as seconds", part.examples)
        if seconds == 1:
            return part
        scaled = f"{best.column.number} / 1000" if seconds < 1 else f"{best.column.number} * {seconds:.0f}"
        return Part("duration_s", scaled, part.sure, f"{part.why}; its unit by its name", part.examples)

    def _value(self) -> Part:
        total, unit, quantity = self._chosen("total"), self._chosen("unit"), self._chosen("quantity")
        for one in (total, unit):
            if isinstance(one, Part):
                return Part("value", None, UNTOLD, one.why, choices=one.choices)
            if one is not None and one.column.numbers and one.column.numbers.doubt:
                choices = [one.column.number, f"replace({one.column.cleaned}, ',', '')::numeric"]
                return Part(
                    "value", None, UNTOLD, f"{shown(one.column.name)}: {one.column.numbers.doubt}", choices=choices
                )
        if isinstance(total, Candidate):
            if self._of_order(total.column):
                if not isinstance(unit, Candidate):
                    why = f"{shown(total.column.name)} seems to be the order's, repeated in each of its rows"
                    return Part("value", None, UNTOLD, why, choices=[total.column.plain])
                self._used.discard(id(total.column))
            else:
                return Part("value", _number_alone(total.column), total.sure, total.why, total.column.examples())
        if not isinstance(unit, Candidate):
            return Part("value", None, NONE, "")
        if isinstance(quantity, Candidate):
            product = f"{quantity.column.number} * {unit.column.number}"
            names = f"{shown(quantity.column.name)} × {shown(unit.column.name)}"
            return Part("value", product, LIKELY, f"{names}: a price is of one piece", unit.column.examples())
        return Part("value", _number_alone(unit.column), unit.sure, unit.why, unit.column.examples())

    def _of_order(self, total: Column) -> bool:
        """Is it one number for all rows of an order, where orders have several rows?"""
        order = self._taken.get("order_id")
        if order is None or not order.column.repeats:
            return False
        per_order: dict[str, set[str]] = {}
        for key, value in zip(order.column.values, total.values, strict=True):
            if key is not None and value is not None:
                per_order.setdefault(key, set()).add(value)
        several = [key for key, rows in order.column.counts.items() if rows > 1 and key in per_order]
        # Lines of one order seldom cost the same; a handful of orders tells nothing.
        return len(several) >= 5 and sum(len(per_order[key]) == 1 for key in several) > 0.9 * len(several)

    def _kind(self, value: Part) -> Part:
        best = self._chosen("kind")
        if isinstance(best, Part):
            return best
        if best is not None:
            column = best.column
            codes = "; codes: rules can name them" if column.numbers else ""
            kinds = [shown(word) for word, _ in column.counts.most_common(_KINDS_SHOWN)]
            more = f" and {column.distinct - _KINDS_SHOWN} more" if column.distinct > _KINDS_SHOWN else ""
            return Part("kind", column.plain, best.sure, f"{best.why}: {', '.join(kinds)}{more}{codes}", kinds)
        return self._one_kind(value)

    def _one_kind(self, value: Part) -> Part:
        """No column tells: what all rows are, by the subject and by what they hold."""
        order, quantity = self._taken.get("order_id"), self._taken.get("quantity")
        subject = guess_names.subject(self._subject)
        total = self._taken.get("total")
        rated = total is not None and guess_names.tokens(total.column.name)[-1:] in (["rating"], ["stars"])
        if subject == "purchase" or (subject is None and (order or (quantity and value.value)) and not rated):
            why = f"called {shown(self._subject)}" if subject else "rows with orders or prices and quantities"
            return self._purchases(value, why)
        kind = subject or ("rating" if rated else None)
        if kind is not None:
            why = f"called {shown(self._subject)}" if subject else "rows with a rating"
            return Part("kind", {"constant": kind}, LIKELY, f"every row: {why}", [kind])
        choices: list[Any] = [{"constant": "purchase"}, {"constant": "view"}]
        return Part("kind", None, UNTOLD, "no column of event names, and nothing says what all rows are", [], choices)

    def _purchases(self, value: Part, why: str) -> Part:
        quantity, order = self._taken.get("quantity"), self._taken.get("order_id")
        signed = quantity or self._taken.get("total")
        if order and signed and (letter := cancelled(order.column, signed.column)):
            typed = signed.column.sql_type not in (None, "text")
            told_apart = value.value is not None and (typed or "::" in value.value)
            worth = value.value if told_apart else signed.column.number
            rules = [
                {"cancel": f"{order.column.word} like '{letter}%'"},
                {"purchase": f"{worth} > 0"},
                {"adjustment": "true"},
            ]
            told = f"{why}; orders that start with {letter} have negative quantities"
            return Part("kind", rules, LIKELY, told, ["cancel", "purchase", "adjustment"])
        if signed and signed.column.numbers and min(signed.column.numbers.values) < 0:
            rules = [{"return": f"{signed.column.number} < 0"}, {"purchase": "true"}]
            return Part(
                "kind", rules, GUESS, f"{why}; some have a negative {shown(signed.column.name)}", ["return", "purchase"]
            )
        return Part("kind", {"constant": "purchase"}, LIKELY, f"every row: {why}", ["purchase"])

    def _look_at_rows(self) -> None:
        for column in self._columns:
            if column.marker is not None and id(column) in self._used:
                self.notes.append(f"{shown(column.name)}: {column.marker} is taken as no value")

    @property
    def attributes(self) -> dict[str, str]:
        """Columns left over that can divide events: few values, many times, and nobody's address."""
        found: dict[str, str] = {}
        for column in self._columns:
            few = column.distinct <= min(_FEW_ATTRIBUTES, max(10, len(column.present) // 50))
            if id(column) in self._used or column.time or not few or not column.repeats or not self._named:
                continue
            words = guess_names.tokens(column.name)
            name = "_".join(words)
            if not words or name in found or name == "order_id" or guess_names.personal(words):
                continue
            self._used.add(id(column))
            found[name] = column.number if column.numbers and not column.numbers.whole else column.plain
            if len(found) == _MOST_ATTRIBUTES:
                break
        return found

    def unused(self) -> list[str]:
        return [shown(column.name) for column in self._columns if id(column) not in self._used]

    def column_of(self, part: str) -> Column | None:
        taken = self._taken.get(part)
        return taken.column if taken else None


def _daily(column: Column) -> bool:
    return column.time is not None and column.time.daily


def _map_time(column: Column, template: str) -> str:
    return column.plain if template == "{}" else template.format(column.cleaned)


def _number_alone(column: Column) -> str:
    plain = column.numbers is None or column.numbers.template == "{}::numeric"
    return column.plain if plain else column.number
