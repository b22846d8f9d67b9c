"""Checks that look at each user's events in their order: duplicates, and rates that no person reaches.

Which users and moments are concerned is told from columns (the mirror's, where there is one); which events, SQL says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ubp_sql.api.events import read_all
from ubp_sql.api.quality_findings import Finding, Flags, grouped, joined
from ubp_sql.api.quality_profile import ROWS, Profile
from ubp_sql.api.quality_rules import Rule
from ubp_sql.api.refresh_rows import BIGINT, image, times
from ubp_sql.api.session import single, touch
from ubp_sql.features.columns import Columns

if TYPE_CHECKING:
    from ubp_sql.features.events import Events
    from ubp_sql.kernels.dispatch import I64

READ = Columns(numbers=("value", "quantity", "duration_s"), keys=("item", "order"))
PIECE = 100_000
"""Events between two looks whether somebody cancelled: some 30 ms."""
MOMENTS = 20_000
MOST_BOTS = 1_000
"""Users with a finding of their own; the others of a source share one."""
PACKED = """
select string_agg(timestamptz_send(r.event_time), '') as t, string_agg(int8send(r.event_id), '') as event_id,
       string_agg(int8send(r.user_id), '') as user_id, string_agg(int8send(r.source), '') as source"""
DUPLICATES = f"""
{PACKED} from (
  select e.event_time, e.event_id, e.user_id, e.source,
         row_number() over (partition by e.user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s,
                                         e.attributes ->> 'order_id' order by e.ingested_at, e.event_id) as place
    from (select n.user_id, n.event_time
            from unnest(ubp.image_array($1, '{{}}'::bigint[]), ubp.image_array($2, '{{}}'::timestamptz[]))
                 as n (user_id, event_time) offset 0) n
    join {ROWS} e on e.user_id = n.user_id and e.event_time = n.event_time) r
 where r.place > 1 and ($3 is null or r.source = $3)"""  # noqa: S608 - constants only
BURSTS = f"""
{PACKED} from (
  select e.event_time, e.event_id, e.user_id, e.source
    from (select n.user_id, n.begins, n.ends
            from unnest(ubp.image_array($1, '{{}}'::bigint[]), ubp.image_array($2, '{{}}'::timestamptz[]),
                        ubp.image_array($3, '{{}}'::timestamptz[])) as n (user_id, begins, ends) offset 0) n
    join {ROWS} e on e.user_id = n.user_id and e.event_time >= n.begins and e.event_time <= n.ends) r
 where $4 is null or r.source = $4"""  # noqa: S608


@dataclass
class Seen:
    """What one pass over everybody's events found: (user, moment) of repeated events; stretches, by rule."""

    moments: "list[I64]" = field(default_factory=list)
    stretches: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)


def pieces(plpy: Any, memory: dict[str, Any], profile: Profile) -> "Iterator[tuple[Events, int, int]]":
    """Events of everybody, and which users of them, PIECE events at a time."""
    import numpy as np

    for events in read_all(plpy, memory, profile.kinds(), READ):
        first = events.first
        low = 0
        while low < len(first) - 1:
            high = max(low + 1, int(np.searchsorted(first, first[low] + PIECE, "right")) - 1)
            touch(plpy, memory)
            yield events, low, high
            low = high


def _pass(plpy: Any, memory: dict[str, Any], profile: Profile) -> Seen:
    """What all rules about users' events in their order look for, in one pass for them all."""
    if profile.seen is not None:
        return profile.seen
    import numpy as np

    from ubp_sql.quality.bursts import Window, bursts, repeated

    seen = profile.seen = Seen()
    repeats = any(rule.check == "duplicates" for rule in profile.rules)
    faster = {
        rule.rule: ([Window(**window) for window in rule.settings["windows"]], rule.settings["active"])
        for rule in profile.rules
        if rule.check == "rate"
    }
    for events, low, high in pieces(plpy, memory, profile):
        part = slice(int(events.first[low]), int(events.first[high]))
        first = events.first[low : high + 1] - events.first[low]
        users, t, order = events.user_id[low:high], events.t_us[part], events.keys["order"][part]
        if repeats:
            # -0.0 is 0.0, in the server too
            numbers = [events.numbers[name][part] + 0.0 for name in READ.numbers]
            rows = repeated(first, t, [events.kind[part].astype(np.int64), events.keys["item"][part], order, *numbers])
            if len(rows):
                seen.moments.append(np.stack((users[np.searchsorted(first, rows, "right") - 1], t[rows]), 1))
        for name, (windows, active) in faster.items():
            stretches = seen.stretches.setdefault(name, [])
            stretches += [(int(users[i]), a, b) for i, a, b in bursts(first, t, order, windows, active)]
    return seen


def duplicates(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a source: events equal to another in user, time, kind, item, value, quantity, duration and order."""
    import numpy as np

    moments = _pass(plpy, memory, profile).moments
    if not moments:
        return []
    pairs = np.unique(np.concatenate(moments), axis=0)
    by_source: dict[int, list[Flags]] = {}
    for begin in range(0, len(pairs), MOMENTS):
        user, t = pairs[begin : begin + MOMENTS].T
        arguments = [image(user, BIGINT), times(t), rule.source]
        row = single(plpy, memory, DUPLICATES, ["bytea", "bytea", "integer"], arguments)
        for source, flags in grouped(row, "source").items():
            by_source.setdefault(source, []).append(flags)
    return [_duplicates(source, joined(parts), profile) for source, parts in sorted(by_source.items())]


def _duplicates(source: int, flags: Flags, profile: Profile) -> Finding:
    import numpy as np

    n, people = len(flags), len(np.unique(flags.user_id))
    share = n / max(1, int(profile.hours(source, clean=False)[1].sum()))
    return Finding(
        subject=f"source {source}",
        source=source,
        severity="low" if share < 0.02 else "medium",
        sentence=f"{n:,} {'event repeats' if n == 1 else 'events repeat'} another one ({share:.2%}; users: {people:,}):"
        " same user, time, kind, item, value, quantity, duration and order",
        way_out="leave them out of features, or give the load map `keys` so that a row is loaded once",
        events=n,
        from_us=int(flags.t_us.min()),
        until_us=int(flags.t_us.max()),
        detail={"users": people, "share": round(share, 6)},
        flags=flags,
    )


def rates(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a user who did more than a person can; of MOST_BOTS and more the rest is one finding."""
    import numpy as np

    found = _pass(plpy, memory, profile).stretches.get(rule.rule, [])
    parts: dict[int, list[Flags]] = {}
    sources: dict[int, set[int]] = {}
    for begin in range(0, len(found), MOMENTS):
        user, t_from, t_until = np.array(found[begin : begin + MOMENTS]).T
        arguments = [image(user, BIGINT), times(t_from), times(t_until), rule.source]
        row = single(plpy, memory, BURSTS, ["bytea", "bytea", "bytea", "integer"], arguments)
        for its, flags in grouped(row, "user_id").items():
            parts.setdefault(its, []).append(flags)
        for source, flags in grouped(row, "source").items():
            for its in np.unique(flags.user_id).tolist():
                sources.setdefault(its, set()).add(source)
    every = [joined(several) for several in parts.values()]
    every.sort(key=lambda flags: (-len(flags), int(flags.user_id[0])))
    findings = [_rate(rule, flags, sources[int(flags.user_id[0])]) for flags in every[:MOST_BOTS]]
    if len(every) > MOST_BOTS:
        findings.append(_many(every[MOST_BOTS:]))
    return findings


def _rate(rule: Rule, flags: Flags, sources: set[int]) -> Finding:
    import numpy as np

    user, n = int(flags.user_id[0]), len(flags)
    t = np.sort(flags.t_us)
    width = min(window["seconds"] for window in rule.settings["windows"]) * 1_000_000
    most = int((np.searchsorted(t, t + width) - np.arange(n)).max())
    return Finding(
        subject=f"user {user}",
        source=min(sources) if len(sources) == 1 else None,
        severity="high",
        user_id=user,
        sentence=f"user {user} made {n:,} events, up to {most / width * 1e6:,.0f} a second: a program, not a person",
        way_out="leave them out of features; block the user where the events are made",
        events=n,
        from_us=int(t[0]),
        until_us=int(t[-1]),
        detail={"per_second": round(most / width * 1e6, 2)},
        flags=flags,
    )


def _many(parts: list[Flags]) -> Finding:
    flags = joined(parts)
    return Finding(
        subject="other users",
        source=None,
        severity="high",
        sentence=f"{len(parts):,} more users made {len(flags):,} events faster than a person can",
        way_out="with so many, look at the rule's windows: is it a feed of machines?",
        events=len(flags),
        from_us=int(flags.t_us.min()),
        until_us=int(flags.t_us.max()),
        detail={"users": len(parts)},
        flags=flags,
    )
