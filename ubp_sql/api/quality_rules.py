"""Rules of data quality: which checks there are, what each can be told, and the rows of ubp.quality_rules."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.features.windows import shown

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
SEASON = re.compile(r"(0[1-9]|1[0-2])-([0-2][1-9]|[1-3]0|31)\.\.(0[1-9]|1[0-2])-([0-2][1-9]|[1-3]0|31)")
NUMBERS = ("value", "quantity", "duration_s")
MOST_WINDOWS = 10
MOST_CHARS = 2_000


class Setting(NamedTuple):
    """One setting of a check: what it is otherwise, how it is read, and what it can be."""

    default: Any
    form: Callable[[Any, "Setting"], Any]
    takes: str
    low: float = 0
    high: float = math.inf


class Rule(NamedTuple):
    """A row of ubp.quality_rules with all settings of its check."""

    rule: str
    check: str
    settings: dict[str, Any]
    source: int | None


def _number(value: Any, setting: Setting) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not setting.low <= value <= setting.high:
        return None
    huge = value.bit_length() > 64 if isinstance(value, int) else math.isinf(value)
    return None if huge else float(value)


def _whole(value: Any, setting: Setting) -> int | None:
    number = _number(value, setting)
    return int(number) if number is not None and number == int(number) else None


def _columns(value: Any, _: Setting) -> list[str] | None:
    good = isinstance(value, list) and value and all(isinstance(v, str) and v in NUMBERS for v in value)
    return [name for name in NUMBERS if name in value] if good else None


def _windows(value: Any, _: Setting) -> list[dict[str, int]] | None:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_WINDOWS:
        return None
    found = []
    for window in value:
        if not isinstance(window, dict) or not {"seconds", "events"} <= set(window) <= {"seconds", "events", "step"}:
            return None
        read = {name: _whole(part, Setting(None, _whole, "", 1, 1e9)) for name, part in window.items()}
        step = read.setdefault("step", 1)
        if (
            None in read.values()
            or not (read["seconds"] or 0) <= 86400
            or not 2 * (step or 0) <= (read["seconds"] or 0)
        ):
            return None
        if (read["events"] or 0) < 2:
            return None
        found.append({name: part for name, part in read.items() if part is not None})
    return found


def _seasons(value: Any, _: Setting) -> list[str] | None:
    good = isinstance(value, list) and all(isinstance(v, str) and SEASON.fullmatch(v) for v in value)
    return value if good else None


def _text(value: Any, _: Setting) -> str | None:
    return value if isinstance(value, str) and value.strip() and len(value) <= MOST_CHARS else None


CHECKS: dict[str, dict[str, Setting]] = {
    "swapped_dates": {"off_days": Setting(20, _number, "days, 15 to 26: how far off a swapped date is", 15, 26)},
    "impossible_times": {
        "ahead_s": Setting(600, _number, "seconds that clocks may differ, up to a day", 0, 86400),
        "apart_days": Setting(365, _number, "days, from 30: how far from all others", 30, 100_000),
    },
    "duplicates": {},
    "rate": {
        "windows": Setting(
            [
                {"seconds": 10, "events": 100, "step": 1},
                {"seconds": 600, "events": 600, "step": 1},
                {"seconds": 3600, "events": 36000, "step": 60},
            ],
            _windows,
            'windows of {"seconds": 10, "events": 100, "step": 1}; seconds up to a day, at least two steps, two events',
        ),
        "active": Setting(0.5, _number, "share of a window's steps with an event, 0.05 to 1", 0.05, 1),
    },
    "outliers": {
        "columns": Setting(list(NUMBERS), _columns, f"some of {', '.join(NUMBERS)}"),
        "score": Setting(3.5, _number, "least modified z-score, 1 to 100", 1, 100),
        "times": Setting(2, _number, "outliers are so many times the next value, 1.1 to 1000", 1.1, 1000),
        "margin": Setting(7, _number, "the chance of a false one is exp(-margin); 1 to 100", 1, 100),
        "events": Setting(100, _whole, "values that a kind has at least, from 20", 20, 1e9),
    },
    "gaps": {
        "hours": Setting(3, _whole, "hours that a gap has at least, 1 to 1000", 1, 1000),
        "weeks": Setting(4, _whole, "other weeks that say what is usual, 2 to 12", 2, 12),
        "margin": Setting(4, _number, "the chance of a false one is exp(-margin); 1 to 100", 1, 100),
        "quiet": Setting(["12-20..01-06"], _seasons, 'times of the year of low severity: ["12-20..01-06"]'),
        "ended_days": Setting(30, _number, "days after which a silent feed has ended, from 0", 0, 100_000),
    },
    "drift": {
        "share": Setting(0.2, _number, "least change of a share, 0.01 to 1", 0.01, 1),
        "scale": Setting(5, _number, "least factor between medians, 1.1 to 1000", 1.1, 1000),
        "weeks": Setting(4, _whole, "weeks that say what is usual, 2 to 100", 2, 100),
        "events": Setting(100, _whole, "events that a week must have, from 10", 10, 1e9),
    },
    "sql": {
        "expression": Setting(None, _text, "a condition on an event's columns: \"value < 0 and kind = 'purchase'\""),
    },
}
RULES = """
select r.rule, r.check_name, r.settings::text as settings, r.source, s.source_id
  from ubp.quality_rules r left join ubp.sources s on s.name = r.source
 where r.active and ($1 is null or r.rule = $1) order by r.rule"""
RULE = "select r.active from ubp.quality_rules r where r.rule = $1"
NAMES = "select r.rule from ubp.quality_rules r order by r.rule"
DEFINE = """
insert into ubp.quality_rules as r (rule, check_name, settings, source, active, meaning)
values ($1, $2, $3::jsonb, $4, $5, coalesce($6, $7))
    on conflict (rule) do update set check_name = excluded.check_name, settings = excluded.settings,
       source = excluded.source, active = excluded.active, meaning = coalesce($6, r.meaning)"""
SOURCE = "select source_id from ubp.sources where name = $1"


def checked(rule: str, check: str | None, settings: Any) -> dict[str, Any]:
    """All settings of the rule's check. Raises BadInput (UB003) on an unknown check and on what cannot be."""
    known = CHECKS.get(check or "")
    if known is None:
        raise BadInput(f"rule {rule!r}: there is no check {shown(check)}", f"one of {', '.join(CHECKS)}")
    if not isinstance(settings, dict):
        raise BadInput(f"rule {rule!r}: settings {shown(settings)} are no object", 'for example {"hours": 6}')
    for name in settings:
        if name not in known:
            takes = ", ".join(known) or "none"
            raise BadInput(f"rule {rule!r}: {check} has no setting {shown(name)}", f"settings of {check}: {takes}")
    found = {}
    for name, setting in known.items():
        if name not in settings:
            if setting.default is None:
                raise BadInput(f"rule {rule!r}: {check} needs the setting {name}", setting.takes)
            found[name] = setting.default
            continue
        found[name] = setting.form(settings[name], setting)
        if found[name] is None:
            raise BadInput(f"rule {rule!r}: {name} cannot be {shown(settings[name])}", setting.takes)
    return found


def active_rules(plpy: Any, memory: dict[str, Any], only: str | None) -> list[Rule]:
    """The rules that are switched on, in the order in which their checks are made; `only` names one.

    Raises NotReady (UB005) where there is no such rule, BadInput (UB003) on what cannot be.
    """
    if only is not None:
        row = single(plpy, memory, RULE, ["text"], [only])
        if row is None or not row["active"]:
            names = ", ".join(found["rule"] for found in run(plpy, memory, NAMES, [], []))
            what = f"there is no rule {only!r}" if row is None else f"rule {only!r} is not active"
            raise NotReady(what, f"there are: {names}; ubp.define_quality_rule makes and switches")
    found = []
    for row in run(plpy, memory, RULES, ["text"], [only]):
        if row["source"] is not None and row["source_id"] is None:
            raise BadInput(f"rule {row['rule']!r}: there is no source {row['source']!r}", "a name of ubp.sources")
        settings = checked(row["rule"], row["check_name"], json.loads(row["settings"]))
        found.append(Rule(row["rule"], row["check_name"], settings, row["source_id"]))
    order = list(CHECKS)
    return sorted(found, key=lambda rule: (order.index(rule.check), rule.rule))


@entry
def define_quality_rule(
    plpy: Any,
    memory: dict[str, Any],
    rule: str | None,
    check_name: str | None,
    settings: str | None,
    source: str | None,
    meaning: str | None,
    active: bool | None,
) -> None:
    """A row of ubp.quality_rules, new or changed; the next check goes by it.

    Raises BadInput (UB003) on a bad name, an unknown check or source, and settings that cannot be.
    """
    check_version(plpy, memory)
    if rule is None or not NAME.fullmatch(rule):
        raise BadInput(f"{shown(rule)} is no name for a rule", "lower-case letters, digits and _, at most 63")
    given = json.loads(settings or "{}")
    read = checked(rule, check_name, given)
    if check_name == "sql":
        from ubp_sql.api.quality_sql import compiled

        compiled(plpy, memory, rule, read["expression"])
    if source is not None and single(plpy, memory, SOURCE, ["text"], [source]) is None:
        raise BadInput(f"rule {rule!r}: there is no source {source!r}", "a name of ubp.sources")
    usual = f"{check_name} with settings of your own" if check_name != "sql" else f"Events with {read['expression']}"
    arguments = [rule, check_name, json.dumps(given), source, active is not False, meaning, usual]
    run(plpy, memory, DEFINE, ["text", "text", "text", "text", "boolean", "text", "text"], arguments)
