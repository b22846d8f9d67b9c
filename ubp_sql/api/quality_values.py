"""Checks of what a kind's values are like: outliers, and changes from week to week."""

import math
from typing import TYPE_CHECKING, Any

from ubp_sql.api.quality_findings import Finding, Flags, grouped
from ubp_sql.api.quality_profile import CLEANED, COLUMNS, INFINITE, NUMBER, ROWS, Profile
from ubp_sql.api.quality_rules import Rule
from ubp_sql.api.session import single, touch

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I64
    from ubp_sql.quality.changes import Change

RARE = 0.001
"""Up to this share, values of the other sign are outliers."""
EVERY = math.nextafter(math.inf, 0)
BEYOND = f"""
select string_agg(timestamptz_send(r.event_time), '') as t, string_agg(int8send(r.event_id), '') as event_id,
       string_agg(int8send(r.user_id), '') as user_id, string_agg(int8send(r.place), '') as place,
       string_agg(float8send(r.v), '') as v
  from (select e.event_id, e.event_time, e.user_id, c.place, e.v
          from (select e.*, {NUMBER} from {ROWS} e) e
          join unnest($2::text::integer[], $3::text[], $4::text::boolean[], $5::text::double precision[],
                      $6::text::double precision[]) with ordinality as c (source, kind, negative, low, high, place)
            on c.source = e.source and c.kind = e.kind and c.negative = (e.v < 0)
         where e.v <> 0 and e.v <> 'NaN' and (abs(e.v) < c.low or abs(e.v) > c.high)
           and not exists (select from {CLEANED} f where f.event_id = e.event_id and f.event_time = e.event_time)) r"""  # noqa: S608 - constants only
WEEK_0 = 1617
"""The bin of the week of 2001-01-01."""
HOUR_0 = 271_752
WEEK_US = 604_800_000_000
WEEK_0_US = 978_307_200_000_000


def _week_us(week: int) -> int:
    return WEEK_0_US + week * WEEK_US


def outliers(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a source, kind and column with values beyond the tail."""
    import numpy as np

    found: list[Finding] = []
    for column in rule.settings["columns"]:
        if not profile.has(column):
            continue
        bounds = _bounds(rule, profile.values(column))
        touch(plpy, memory)
        if not bounds:
            continue
        keys = list(bounds)
        arguments = [
            column,
            _array(key[0] for key in keys),
            [key[1] for key in keys],
            _array("true" if key[2] else "false" for key in keys),
            _array(repr(bounds[key][0]) for key in keys),
            _array(repr(bounds[key][1]) for key in keys),
        ]
        types = ["text", "text", "text[]", "text", "text", "text"]
        row = single(plpy, memory, BEYOND, types, arguments)
        parts = grouped(row, "place")
        if row is None or not parts:
            continue
        ids = np.frombuffer(row["event_id"], ">i8").astype(np.int64)
        values = dict(zip(ids.tolist(), np.frombuffer(row["v"], ">f8").tolist(), strict=True))
        merged: dict[tuple[int, str], list[tuple[tuple[int, str, bool], Flags]]] = {}
        for place, flags in parts.items():
            key = keys[place - 1]
            merged.setdefault(key[:2], []).append((key, flags))
        found += [_outliers(which, column, groups, bounds, values) for which, groups in sorted(merged.items())]
    return found


def _array(parts: Any) -> str:
    return "{" + ",".join(str(part) for part in parts) + "}"


def _bounds(
    rule: Rule, values: "dict[tuple[int, str, bool], I64]"
) -> dict[tuple[int, str, bool], tuple[float, float, float]]:
    """(least, greatest, median) magnitude of each group in which some value lies beyond."""
    import numpy as np

    from ubp_sql.quality.tails import cuts

    found = {}
    totals = {key: int(table[:, 2].sum()) for key, table in values.items()}
    for key, table in values.items():
        source, kind, negative = key
        if rule.source not in (None, source):
            continue
        finite = table[table[:, 1] < INFINITE]
        bins, place = np.unique(finite[:, 1], return_inverse=True)
        counts = np.zeros(len(bins), np.int64)
        np.add.at(counts, place, finite[:, 2])
        endless = len(finite) < len(table)
        low, high, median = 0.0, EVERY, math.nan
        others = totals.get((source, kind, not negative), 0)
        if totals[key] < rule.settings["events"]:
            if negative and totals[key] <= RARE * others:
                low = EVERY  # each of them
        elif len(bins):
            settings = rule.settings
            low, high, median = cuts(bins, counts, settings["score"], settings["times"], settings["margin"])
        if endless or low > 0 or high < math.inf:
            found[key] = (low, min(high, EVERY), median)
    return found


def _outliers(
    which: tuple[int, str],
    column: str,
    groups: "list[tuple[tuple[int, str, bool], Flags]]",
    bounds: dict[tuple[int, str, bool], tuple[float, float, float]],
    values: dict[int, float],
) -> Finding:
    from ubp_sql.api.quality_findings import joined

    source, kind = which
    flags = joined([part for _, part in groups])
    key = max(groups, key=lambda group: len(group[1]))[0]
    median = bounds[key][2] * (-1 if key[2] else 1)
    known = not math.isnan(median)
    own = [values[event] for event in flags.event_id.tolist()]
    own.sort(key=lambda value: abs(math.log(value / median)) if known and 0 < value / median < math.inf else math.inf)
    usual = f"a usual {column} is about {median:.2g}" if known else "others have the other sign, or an end"
    shown = ", ".join(f"{value:,.6g}" for value in own[::-1][:3])
    what = "event has" if len(own) == 1 else "events have"
    return Finding(
        subject=f"source {source} kind {kind} {column}",
        source=source,
        severity="medium",
        sentence=f"{len(own):,} {kind} {what} a {column} far from all others: {shown}; {usual}",
        way_out="look at them where they come from: a slip of the unit or of a digit? Leave them out of features",
        events=len(own),
        from_us=int(flags.t_us.min()),
        until_us=int(flags.t_us.max()),
        detail={"kind": kind, "column": column, "largest": _finite(own[-1]), "median": _finite(median)},
        flags=flags,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def drift(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a run of weeks in which a source was not what it had been."""
    import numpy as np

    found: list[Finding] = []
    by_source: dict[int, dict[str | None, I64]] = {}
    for (source, kind), table in profile.clean().items():
        if rule.source in (None, source) and len(table):
            by_source.setdefault(source, {})[kind] = table
    for source, tables in by_source.items():
        touch(plpy, memory)
        every = np.concatenate(list(tables.values()))
        weeks = (every[:, 0] - HOUR_0) // 168
        low, n = int(weeks.min()), int(weeks.max() - weeks.min()) + 1
        totals = np.zeros(n, np.int64)
        np.add.at(totals, weeks - low, every[:, 1])
        for kind, table in sorted((key, part) for key, part in tables.items() if key is not None):
            sums = np.zeros((n, 7), np.int64)
            np.add.at(sums, (table[:, 0] - HOUR_0) // 168 - low, table[:, 1:8])
            found += _of_kind(rule, source, str(kind), low, sums, totals)
    for column in ("value", "quantity", "duration_s"):
        if profile.has(column):
            found += _scales(rule, column, profile)
            touch(plpy, memory)
    return found


def _of_kind(rule: Rule, source: int, kind: str, low: int, sums: "I64", totals: "I64") -> list[Finding]:
    """sums  (w, 7) events of a week, and those with each of COLUMNS; totals: the source's."""
    import numpy as np

    from ubp_sql.quality.changes import arrival, departure, shifts

    found = []
    weeks, events = rule.settings["weeks"], rule.settings["events"]
    own = sums[:, 0]
    came, went = arrival(own, totals, weeks, events), departure(own, totals, weeks, events)
    if came is not None:
        sentence = f"{kind} events came with the week of {{from_}}: {came.after:.1%} of all since, none before"
        found.append(_changed(source, f"{kind} came", "low", low, came, sentence, "a new kind: do features need it?"))
    if went is not None:
        sentence = f"no {kind} event since the week of {{from_}}: they were {went.before:.1%} of all before"
        way_out = "was it renamed, or is a part of the feed broken?"
        found.append(_changed(source, f"{kind} went", "high", low, went, sentence, way_out))
    for place, column in enumerate(COLUMNS, 1):
        share = np.divide(sums[:, place], own, out=np.full(len(own), np.nan), where=own > 0)
        for change in shifts(share, own, rule.settings["share"], weeks, events):
            sentence = (
                f"{kind} events with {column}: {change.after:.0%} from the week of {{from_}} to that of {{until}}, "
                f"{change.before:.0%} before"
            )
            severity = "high" if change.after < change.before else "medium"
            what = f"{kind} {column} {low + change.begin}"
            way_out = "ask what changed at the source; a feature of this column changes with it"
            found.append(_changed(source, what, severity, low, change, sentence, way_out))
    return found


def _scales(rule: Rule, column: str, profile: Profile) -> list[Finding]:
    import numpy as np

    from ubp_sql.quality.changes import shifts
    from ubp_sql.quality.tails import median_bin

    found = []
    for (source, kind, negative), table in sorted(profile.values(column).items()):
        finite = table[table[:, 1] < INFINITE]
        if rule.source not in (None, source) or not len(finite):
            continue
        finite = finite[np.lexsort((finite[:, 1], finite[:, 0]))]
        low = int(finite[0, 0])
        medians = np.full(int(finite[-1, 0]) - low + 1, np.nan)
        events = np.zeros(len(medians), np.int64)
        for part in np.split(finite, np.flatnonzero(np.diff(finite[:, 0])) + 1):
            week = int(part[0, 0]) - low
            medians[week], events[week] = median_bin(part[:, 1], part[:, 2]), part[:, 2].sum()
        settings = rule.settings
        for change in shifts(medians, events, math.log(settings["scale"]), settings["weeks"], settings["events"]):
            factor = math.exp(change.after - change.before)
            times = f"{_about(factor)} times" if factor > 1 else f"1/{_about(1 / factor)} of"
            sentence = (
                f"the middle {column} of {kind} events is about {times} what it was, "
                "from the week of {from_} to that of {until}"
            )
            what = f"{kind}{' negative' * negative} scale of {column} {low - WEEK_0 + change.begin}"
            way_out = "another unit or currency? Convert it at the source"
            found.append(_changed(source, what, "high", low - WEEK_0, change, sentence, way_out))
    return found


def _about(number: float) -> str:
    """Two digits: medians are told from bins 1.6 % wide."""
    return f"{float(f'{number:.2g}'):,.10g}"


def _changed(source: int, what: str, severity: str, low: int, change: "Change", sentence: str, way_out: str) -> Finding:
    from datetime import UTC, datetime, timedelta

    begin, until = _week_us(low + change.begin), _week_us(low + change.end + 1)
    day = [
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).date().isoformat()
        for us in (begin, until - WEEK_US)
    ]
    return Finding(
        subject=f"source {source} {what}",
        source=source,
        severity=severity,
        sentence=sentence.replace("{from_}", day[0]).replace("{until}", day[1]),
        way_out=way_out,
        events=change.events,
        from_us=begin,
        until_us=until,
        detail={"before": round(change.before, 6), "after": round(change.after, 6)},
    )
