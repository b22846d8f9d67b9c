"""Checks of when events are said to have happened: swapped dates, impossible times, gaps in a feed."""

from typing import TYPE_CHECKING, Any

from ubp_sql.api.quality_findings import Finding, Flags, grouped, joined, moment
from ubp_sql.api.quality_profile import ROWS, Profile, hashed
from ubp_sql.api.quality_rules import Rule
from ubp_sql.api.refresh_rows import BIGINT, image, times
from ubp_sql.api.session import run, single, touch
from ubp_sql.kernels.codes import DAY_US, HOUR_US

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I64

FITS = 0.5
"""Of the events that are off in some surroundings, the share that swapping must explain."""
FITTING = 0.1
"""Of all surroundings with such events, the share that must be explained so: one of fifty fits by chance."""
MOST_OFF = 100_000
PACKED = """
select string_agg(timestamptz_send(r.event_time), '') as t, string_agg(int8send(r.event_id), '') as event_id,
       string_agg(int8send(r.user_id), '') as user_id, string_agg(int8send(r.key), '') as key"""
BLOCKS = f"""
with b as materialized (
  select e.source, e.event_id >> s.bits as block, min(e.event_time) as low, max(e.event_time) as high
    from {ROWS} e join unnest($1::integer[], $2::integer[]) as s (source, bits) on s.source = e.source
   group by 1, 2)
select b.source, string_agg(int8send(b.block) || timestamptz_send(b.low) || timestamptz_send(b.high), '') as blocks
  from b group by b.source"""  # noqa: S608 - constants only
SWAPPED = """
  cross join lateral (select e.event_time at time zone coalesce(s.time_zone, 'UTC') as at) l
  cross join lateral (
    select case when extract(day from l.at) <= 12 and extract(day from l.at) <> extract(month from l.at)
                then make_timestamp(extract(year from l.at)::integer, extract(day from l.at)::integer,
                                    extract(month from l.at)::integer, extract(hour from l.at)::integer,
                                    extract(minute from l.at)::integer, extract(second from l.at)::double precision)
                     at time zone coalesce(s.time_zone, 'UTC') end as swapped) w"""
# Key: twice the place of the surroundings in which the event is off; one more where it fits with day and month swapped.
AMONG = f"""
{PACKED} from (
  select e.event_time, e.event_id, e.user_id,
         2 * b.place
           + coalesce(w.swapped between b.low - interval '1 day' and b.high + interval '1 day', false)::integer as key
    from unnest(ubp.image_array($2, '{{}}'::bigint[]), ubp.image_array($3, '{{}}'::bigint[]),
                ubp.image_array($4, '{{}}'::timestamptz[]), ubp.image_array($5, '{{}}'::timestamptz[]))
         with ordinality as b (first, last, low, high, place)
    join {ROWS} e on e.event_id >= b.first and e.event_id <= b.last and e.source = $1
                 and (e.event_time < b.low - $6 * interval '1 day' or e.event_time > b.high + $6 * interval '1 day')
    left join ubp.sources s on s.source_id = e.source {SWAPPED}
   limit {MOST_OFF}) r"""  # noqa: S608
OUTSIDE = f"""
{PACKED} from (
  select e.event_time, e.event_id, e.user_id, coalesce(w.swapped between $2 and $3, false)::integer::bigint as key
    from {ROWS} e left join ubp.sources s on s.source_id = e.source {SWAPPED}
   where e.source = $1 and (e.event_time < $2::timestamptz - $4 * interval '1 day'
                            or e.event_time > $3::timestamptz + $4 * interval '1 day')
   limit {MOST_OFF}) r"""  # noqa: S608
# What arrived before it happened, and happened within three days of its arrival when swapped.
EARLY = f"""
{PACKED} from (
  select e.event_time, e.event_id, e.user_id, e.source::bigint as key
    from {ROWS} e left join ubp.sources s on s.source_id = e.source {SWAPPED}
   where e.event_time > least(e.ingested_at, now()) + $1 * interval '1 day' and ($2 is null or e.source = $2)
     and w.swapped between e.ingested_at - interval '3 days' and least(e.ingested_at, now()) + interval '10 minutes'
   limit {MOST_OFF}) r"""  # noqa: S608
# Key: 10 * source and 0 for the future, 1 before arrival, 2 apart from all others.
IMPOSSIBLE = f"""
{PACKED} from (
  select e.event_time, e.event_id, e.user_id,
         10 * e.source::bigint + case when e.event_time > now() + $1 * interval '1 second' then 0
                                      when e.event_time > e.ingested_at + $1 * interval '1 second' then 1
                                      else 2 end as key
    from {ROWS} e
    left join unnest($2::integer[], $3::text::timestamptz[], $4::text::timestamptz[]) as b (source, low, high)
           on b.source = e.source
   where (e.event_time > least(e.ingested_at, now()) + $1 * interval '1 second' or e.event_time < b.low
          or e.event_time > b.high)
     and ($5 is null or e.source = $5)
     and not exists (select from ubp.flagged_events f join ubp.quality_findings q using (finding_id)
                       join ubp.quality_rules x using (rule)
                      where x.check_name = 'swapped_dates' and f.event_id = e.event_id
                        and f.event_time = e.event_time)) r"""  # noqa: S608
NOW = "select extract(epoch from now())::double precision as now"
FEEDS = """
select s.source_id, s.kind, s.time_zone from ubp.sources s"""
# Of the newest events: hours from each to its arrival.
LAG = f"""
select percentile_disc(0.5) within group (order by e.ingested_at - e.event_time) < interval '1 day' as live
  from {ROWS} e where e.source = $1 and e.event_time >= $2"""  # noqa: S608
HOLIDAYS = "select day::text as day from ubp.calendar where region = '' or region = $1"


def swapped_dates(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a source: times that do not fit where the event stands, and do with day and month swapped."""
    off = rule.settings["off_days"]
    parts: dict[int, list[Flags]] = {}
    if profile.ahead():
        row = single(plpy, memory, EARLY, ["double precision", "integer"], [off, rule.source])
        for source, flags in grouped(row, "key").items():
            parts.setdefault(source, []).append(flags)
    for source, flags in _ordered(plpy, memory, rule, profile):
        parts.setdefault(source, []).append(flags)
    for source in _sources(rule, profile):
        first, last, (low, high) = _span(profile, source, int(off * 24))
        if first < low or last > high:
            arguments = [source, moment(low * HOUR_US), moment((high + 1) * HOUR_US - 1), off]
            types = ["integer", "timestamptz", "timestamptz", "double precision"]
            fitting = _fitting(single(plpy, memory, OUTSIDE, types, arguments))
            if fitting is not None:
                parts.setdefault(source, []).append(fitting)
    found = []
    for source, several in sorted(parts.items()):
        flags = joined(several)
        n = len(flags)
        said = "event has" if n == 1 else "events have"
        found.append(
            Finding(
                subject=f"source {source}",
                source=source,
                severity="high" if n > 1 else "medium",
                sentence=f"{n:,} {said} day and month swapped: so its time fits its neighbours, as it is it does not",
                way_out="correct event_time, or say the date's format in the load map and load again",
                events=n,
                from_us=int(flags.t_us.min()),
                until_us=int(flags.t_us.max()),
                flags=flags,
            )
        )
    return found


def _sources(rule: Rule, profile: Profile) -> list[int]:
    return [source for source in profile.sources() if rule.source in (None, source)]


def _span(profile: Profile, source: int, apart: int) -> tuple[int, int, tuple[int, int]]:
    """First and last hour with an event, and those of the source's main part."""
    from ubp_sql.quality.silences import main_span

    hours, counts = profile.hours(source, clean=False)
    return int(hours[0]), int(hours[-1]), main_span(hours, counts, apart)


def _fitting(row: Any) -> Flags | None:
    """Events that fit when swapped; None where it may be chance that some do."""
    found = grouped(row, "key")
    places = {key // 2 for key in found}
    told = []
    for place in sorted(places):
        fit, other = found.get(2 * place + 1), found.get(2 * place)
        if fit is not None and len(fit) >= FITS * (len(fit) + (0 if other is None else len(other))):
            told.append(fit)
    if not told or len(told) < FITTING * len(places) or sum(map(len, found.values())) >= MOST_OFF:
        return None
    return joined(told)


def _ordered(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> "list[tuple[int, Flags]]":
    """Of sources whose numbers follow their times: events that stand where their swapped time belongs."""
    import numpy as np

    from ubp_sql.quality.sequence import block_bits, surroundings

    off = rule.settings["off_days"]
    bits = {}
    for source in _sources(rule, profile):
        counts = profile.hours(source, clean=False)[1]
        low, high = _span(profile, source, int(off * 24))[2]
        bits[source] = block_bits(int(counts.sum()), (high + 1 - low) * HOUR_US)
    if not bits:
        return []
    found = []
    for row in hashed(plpy, memory, BLOCKS, ["integer[]", "integer[]"], [list(bits), list(bits.values())]):
        source = row["source"]
        table = _blocks(row["blocks"])
        told = surroundings(table[:, 1], table[:, 2], int(off * DAY_US))
        which = np.flatnonzero(told.suspect)
        touch(plpy, memory)
        if not len(which):
            continue
        first = table[which, 0] << bits[source]
        arguments = [
            source,
            image(first, BIGINT),
            image(first + (1 << bits[source]) - 1, BIGINT),
            times(told.low[which]),
            times(told.high[which]),
            off,
        ]
        types = ["integer", "bytea", "bytea", "bytea", "bytea", "double precision"]
        flags = _fitting(single(plpy, memory, AMONG, types, arguments))
        if flags is not None:
            found.append((source, flags))
    return found


def _blocks(raw: bytes) -> "I64":
    """(b, 3) number, earliest and latest time of each block, in order."""
    import numpy as np

    from ubp_sql.features.events import POSTGRES_EPOCH_US

    table = np.frombuffer(raw, ">i8").astype(np.int64).reshape(-1, 3)
    table[:, 1:] += POSTGRES_EPOCH_US
    return table[np.argsort(table[:, 0])]


def impossible_times(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a source and reason."""
    bounds = []
    apart = int(rule.settings["apart_days"] * 24)
    for source in _sources(rule, profile):
        first, last, (low, high) = _span(profile, source, apart)
        if first < low or last > high:
            bounds.append((source, low * HOUR_US, (high + 1) * HOUR_US))
    if not bounds and not profile.ahead():
        return []
    arguments = [
        rule.settings["ahead_s"],
        [source for source, _, _ in bounds],
        "{" + ",".join(str(moment(low)) for _, low, _ in bounds) + "}",
        "{" + ",".join(str(moment(high)) for _, _, high in bounds) + "}",
        rule.source,
    ]
    types = ["double precision", "integer[]", "text", "text", "integer"]
    parts = grouped(single(plpy, memory, IMPOSSIBLE, types, arguments), "key")
    return [_impossible(*divmod(key, 10), flags, bounds) for key, flags in sorted(parts.items())]


def _impossible(source: int, reason: int, flags: Flags, bounds: list[tuple[int, int, int]]) -> Finding:
    n = len(flags)
    event = "event" if n == 1 else "events"
    what, way_out = "", ""
    if reason == 0:
        what = f"{n:,} {event} in the future, up to {str(moment(int(flags.t_us.max())))[:10]}"
        way_out = "a clock or a time zone is wrong where they are made; correct event_time"
    elif reason == 1:
        what = f"{n:,} {event} later than the arrival in the database"
        way_out = "give ingested_at and event_time the same time zone, or correct the clock"
    else:
        low = next((str(moment(low))[:10] for its, low, _ in bounds if its == source), "")
        what = f"{n:,} {event} far from all others of the source, which begin {low}"
        way_out = "a default date such as 1970-01-01? Correct event_time, or let the load map refuse it"
    return Finding(
        subject=f"source {source} {('future', 'before arrival', 'apart')[reason]}",
        source=source,
        severity=("high", "medium", "medium")[reason],
        sentence=what,
        way_out=way_out,
        events=n,
        from_us=int(flags.t_us.min()),
        until_us=int(flags.t_us.max()),
        flags=flags,
    )


def gaps(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a silence that the source's rhythm does not explain."""
    from ubp_sql.quality.silences import main_span, silences

    now_us = int((single(plpy, memory, NOW, [], []) or {"now": 0})["now"] * 1e6)
    feeds = {row["source_id"]: row for row in run(plpy, memory, FEEDS, [], [])}
    found: list[Finding] = []
    for source in _sources(rule, profile):
        touch(plpy, memory)
        hours, counts = profile.hours(source, clean=True)
        if not len(hours):
            continue
        low, high = main_span(hours, counts, 20 * 24)
        own = (hours >= low) & (hours <= high)
        hours, counts = hours[own], counts[own]
        until = high + 1
        now = now_us // HOUR_US
        zone = feeds[source]["time_zone"] if source in feeds else "UTC"
        kind = feeds[source]["kind"] if source in feeds else "direct"
        if kind != "file" and until < now < until + rule.settings["ended_days"] * 24:
            row = single(plpy, memory, LAG, ["integer", "timestamptz"], [source, moment((high - 24) * HOUR_US)])
            if row is not None and row["live"]:
                until = now
        holidays = [row["day"] for row in run(plpy, memory, HOLIDAYS, ["text"], [zone])]
        excused, quiet = _calendar(low, until, holidays, rule.settings["quiet"])
        settings = rule.settings
        for one in silences(
            hours, counts, until, settings["hours"], settings["weeks"], settings["margin"], excused, quiet
        ):
            found.append(_gap(source, one, open_ended=one.end == until and until > high + 1))
    return found


def _calendar(low: int, until: int, holidays: list[str], seasons: list[str]) -> Any:
    """(excused, quiet) of the hours from `low` to, without, `until`."""
    import numpy as np

    days = (np.arange(low, until) // 24).astype("datetime64[D]")
    excused = np.isin(days, np.array(holidays, "datetime64[D]")) if holidays else np.zeros(len(days), np.bool_)
    month = days.astype("datetime64[M]")
    number = (month.astype(np.int64) % 12 + 1) * 100 + (days - month).astype(np.int64) + 1
    quiet = np.zeros(len(days), np.bool_)
    for season in seasons:
        begin, end = (int(part.replace("-", "")) for part in season.split(".."))
        inside = (number >= begin) & (number <= end) if begin <= end else (number >= begin) | (number <= end)
        quiet |= inside
    return excused, quiet


def _gap(source: int, one: Any, *, open_ended: bool) -> Finding:
    length = one.end - one.begin
    long = f"{length} hours" if length < 48 else f"{length / 24:.1f} days"
    severity = "high" if one.expected >= one.daily else "medium"
    why = ""
    if one.quiet >= 0.5:
        severity, why = "low", ", in a quiet time of the year"
    elif one.others >= 2:
        severity, why = "low", f"; this feed pauses now and then, {one.others} times more"
    begin = str(moment(one.begin * HOUR_US))[:16].replace("T", " ")
    silent = f"silent for {long}, since {begin}" if open_ended else f"silent for {long}, from {begin}"
    return Finding(
        subject=f"source {source} from {begin}",
        source=source,
        severity=severity,
        sentence=f"{silent}: usually {one.expected:,.0f} events in these hours{why}",
        way_out="ask whether the feed was down, and load what is missing; a day without trade goes into ubp.calendar",
        events=0,
        from_us=one.begin * HOUR_US,
        until_us=one.end * HOUR_US,
        detail={"expected": round(one.expected, 1), "hours": length, "surprise": round(one.surprise, 1)},
    )
