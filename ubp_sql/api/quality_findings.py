"""Findings of a check into ubp.quality_findings, and the events they speak of into ubp.flagged_events.

A check says what holds now; what is stored follows it: a finding is made, updated, opened again or resolved, and only
flags that came or went make the features of their users dirty.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.quality_profile import ROWS
from ubp_sql.api.refresh_rows import BIGINT, image, times
from ubp_sql.api.session import Row, check_version, entry, run, single
from ubp_sql.errors import BadInput

if TYPE_CHECKING:
    from ubp_sql.kernels.dispatch import I64

PIECE = 100_000
"""Flags a statement."""
MOST_FLAGS = 5_000_000
"""Of a finding; more would be no exception but the feed."""
UPSERT = """
insert into ubp.quality_findings as q
  (rule, subject, source, severity, user_id, first_event, last_event, from_time, until_time, events, sentence, example,
   way_out, detail)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::jsonb)
    on conflict (rule, subject) do update
   set source = excluded.source, severity = excluded.severity, user_id = excluded.user_id,
       first_event = excluded.first_event, last_event = excluded.last_event, from_time = excluded.from_time,
       until_time = excluded.until_time, events = excluded.events, sentence = excluded.sentence,
       example = excluded.example, way_out = excluded.way_out, detail = excluded.detail, last_seen = now(),
       resolved_at = null
returning finding_id, dismissed_at is not null as dismissed"""
UPSERT_TYPES = [
    *("text", "text", "integer", "text", "bigint", "bigint", "bigint", "timestamptz", "timestamptz", "bigint"),
    *("text", "text", "text", "text"),
]
OPEN = """
select q.finding_id, q.subject, coalesce(q.until_time < $2::timestamptz, false) as before
  from ubp.quality_findings q where q.rule = $1 and q.resolved_at is null"""
RESOLVE = "update ubp.quality_findings set resolved_at = now() where finding_id = $1"
GIVEN = """
unnest(ubp.image_array($2, '{}'::bigint[]), ubp.image_array($3, '{}'::timestamptz[]),
       ubp.image_array($4, '{}'::bigint[])) as n (event_id, event_time, user_id)"""
FLAGS = """
select string_agg(int8send(f.event_id), '') as events, string_agg(int8send(f.user_id), '') as users
  from ubp.flagged_events f where f.finding_id = $1"""
FLAG = f"""
insert into ubp.flagged_events (finding_id, event_id, event_time, user_id)
select $1, n.event_id, n.event_time, n.user_id from {GIVEN} on conflict do nothing"""  # noqa: S608 - constants only
UNFLAG = """
delete from ubp.flagged_events f using unnest(ubp.image_array($2, '{}'::bigint[])) as n (event_id)
 where f.finding_id = $1 and f.event_id = n.event_id"""
EXAMPLE = f"""
select format('event %s: user %s, %s, %s%s%s', e.event_id, coalesce(u.user_key, e.user_id::text),
              to_char(e.event_time at time zone coalesce(s.time_zone, 'UTC'), 'YYYY-MM-DD HH24:MI:SS'), e.kind,
              ' of item ' || coalesce(i.item_key, e.item_id::text), ', value ' || e.value) as example
  from {ROWS} e left join ubp.users u on u.user_id = e.user_id and u.tenant = 0
       left join ubp.items i on i.item_id = e.item_id and i.tenant = 0
       left join ubp.sources s on s.source_id = e.source
 where e.user_id = $1 and e.event_time = (ubp.image_array($2, '{{}}'::timestamptz[]))[1] and e.event_id = $3
 limit 1"""  # noqa: S608
# Who declares a column of flags has the mirror built anew; until this commits nobody does, so that either we see the
# column or its build sees our flags.
HOLD_COLUMNS = "lock table ubp.event_columns in share mode"
CHANGED = """
insert into ubp.event_log (op, users)
select 'U', ubp.image_array($1, '{}'::bigint[])
 where exists (select from ubp.event_columns c where c.of = 'flag')"""
EVERYBODY = (
    "insert into ubp.event_log (op) select 'T' where exists (select from ubp.event_columns c where c.of = 'flag')"
)
MOST_USERS = 1_000_000
FINDING = "select rule, dismissed_at is not null as dismissed from ubp.quality_findings where finding_id = $1"
DISMISS = """
update ubp.quality_findings set dismissed_at = case when $2 then now() end,
       dismissed_by = case when $2 then session_user end where finding_id = $1"""


@dataclass
class Flags:
    """Events that a finding speaks of."""

    event_id: "I64"
    t_us: "I64"
    user_id: "I64"

    def __len__(self) -> int:
        return len(self.event_id)


@dataclass
class Finding:
    """What a check says of one subject."""

    subject: str
    source: int | None
    severity: str
    sentence: str
    way_out: str
    events: int = 0
    user_id: int | None = None
    from_us: int | None = None
    until_us: int | None = None
    example: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    flags: Flags | None = None


class Kept(NamedTuple):
    """What became of a rule's findings."""

    findings: int
    new: int
    gone: int
    events: int


def grouped(row: Row | None, key: str) -> "dict[int, Flags]":
    """Flags of a row of packed columns event_id, t, user_id, by its column `key`."""
    import numpy as np

    from ubp_sql.features.events import POSTGRES_EPOCH_US

    if row is None or row["event_id"] is None:
        return {}
    by = np.frombuffer(row[key], ">i8").astype(np.int64)
    columns = [np.frombuffer(row[name], ">i8").astype(np.int64) for name in ("event_id", "t", "user_id")]
    columns[1] += POSTGRES_EPOCH_US
    order = np.lexsort((columns[0], by))
    ends = np.flatnonzero(np.diff(by[order])) + 1
    return {int(by[part[0]]): Flags(*(column[part] for column in columns)) for part in np.split(order, ends)}


def joined(parts: "list[Flags]") -> Flags:
    """Flags of several statements, each event once."""
    import numpy as np

    event_id, t_us, user_id = (
        np.concatenate([getattr(part, name) for part in parts] or [np.empty(0, np.int64)])
        for name in ("event_id", "t_us", "user_id")
    )
    kept = np.unique(event_id, return_index=True)[1]
    return Flags(event_id[kept], t_us[kept], user_id[kept])


def moment(us: int | None) -> str | None:
    """A moment as SQL reads it."""
    if us is None:
        return None
    from datetime import UTC, datetime, timedelta

    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


def store(
    plpy: Any, memory: dict[str, Any], rule: str, found: list[Finding], since: str | None, changed: "set[int]"
) -> Kept:
    """Makes the rule's stored findings and flags those that were `found`; adds users with other flags to `changed`.

    since  findings that end before it are left as they are
    """
    before = {row["subject"]: row for row in run(plpy, memory, OPEN, ["text", "text"], [rule, since])}
    new = events = findings = 0
    said = set()
    for finding in found:
        said.add(finding.subject)
        if since is not None and finding.until_us is not None and finding.subject in before:
            if before[finding.subject]["before"]:
                continue
        elif since is not None and finding.until_us is not None and _before(plpy, memory, finding.until_us, since):
            continue
        new += finding.subject not in before
        findings += 1
        events += finding.events
        _keep(plpy, memory, rule, finding, changed)
    gone = 0
    for subject, row in before.items():
        if subject not in said and not row["before"]:
            run(plpy, memory, RESOLVE, ["bigint"], [row["finding_id"]])
            _flag(plpy, memory, row["finding_id"], None, changed)
            gone += 1
    return Kept(findings, new, gone, events)


def _before(plpy: Any, memory: dict[str, Any], us: int, since: str) -> bool:
    row = single(plpy, memory, "select $1::timestamptz < $2::timestamptz as b", ["text", "text"], [moment(us), since])
    return bool(row and row["b"])


def _keep(plpy: Any, memory: dict[str, Any], rule: str, finding: Finding, changed: "set[int]") -> None:
    flags, example = finding.flags, finding.example
    first = last = None
    if flags is not None and len(flags):
        first, last = int(flags.event_id.min()), int(flags.event_id.max())
        if example is None:
            place = times(flags.t_us[:1])
            arguments = [int(flags.user_id[0]), place, int(flags.event_id[0])]
            row = single(plpy, memory, EXAMPLE, ["bigint", "bytea", "bigint"], arguments)
            example = row["example"] if row else None
    row = single(
        plpy,
        memory,
        UPSERT,
        UPSERT_TYPES,
        [
            *(rule, finding.subject, finding.source, finding.severity, finding.user_id, first, last),
            *(moment(finding.from_us), moment(finding.until_us), finding.events, finding.sentence, example),
            *(finding.way_out, json.dumps(finding.detail)),
        ],
    )
    assert row is not None  # noqa: S101 - a statement that returns what it wrote
    _flag(plpy, memory, row["finding_id"], None if row["dismissed"] else flags, changed)


def _flag(plpy: Any, memory: dict[str, Any], finding: int, flags: Flags | None, changed: "set[int]") -> None:
    """Makes the finding's flags these; adds whoever got or lost one to `changed`."""
    import numpy as np

    row = single(plpy, memory, FLAGS, ["bigint"], [finding])
    stored, owners = (np.frombuffer((row and row[name]) or b"", ">i8").astype(np.int64) for name in ("events", "users"))
    wanted = np.empty(0, np.int64) if flags is None else flags.event_id[:MOST_FLAGS]
    lost = ~np.isin(stored, wanted)
    changed.update(np.unique(owners[lost]).tolist())
    gone = stored[lost]
    for low in range(0, len(gone), PIECE):
        run(plpy, memory, UNFLAG, ["bigint", "bytea"], [finding, image(gone[low : low + PIECE], BIGINT)])
    if flags is None:
        return
    come = np.flatnonzero(~np.isin(wanted, stored))
    changed.update(np.unique(flags.user_id[come]).tolist())
    for low in range(0, len(come), PIECE):
        part = come[low : low + PIECE]
        arguments = [
            finding,
            image(flags.event_id[part], BIGINT),
            times(flags.t_us[part]),
            image(flags.user_id[part], BIGINT),
        ]
        run(plpy, memory, FLAG, ["bigint", "bytea", "bytea", "bytea"], arguments)


def tell_refresh(plpy: Any, memory: dict[str, Any], changed: "set[int]") -> None:
    """Lets the next fold read the events of these users anew, if any event column is of flags."""
    import numpy as np

    if not changed:
        return
    run(plpy, memory, HOLD_COLUMNS, [], [])
    if len(changed) > MOST_USERS:
        run(plpy, memory, EVERYBODY, [], [])
    else:
        run(plpy, memory, CHANGED, ["bytea"], [image(np.array(sorted(changed), np.int64), BIGINT)])


@entry
def dismiss_finding(plpy: Any, memory: dict[str, Any], finding_id: int | None, dismissed: bool | None) -> None:
    """Takes a finding as right: its events lose their flags, and no check gives them back; false: as before again.

    Raises BadInput (UB003) where there is no such finding.
    """
    check_version(plpy, memory)
    row = None if finding_id is None else single(plpy, memory, FINDING, ["bigint"], [finding_id])
    if row is None or finding_id is None or dismissed is None:
        raise BadInput(f"there is no finding {finding_id}", "select finding_id, sentence from ubp.quality_findings")
    run(plpy, memory, DISMISS, ["bigint", "boolean"], [finding_id, dismissed])
    if dismissed:
        changed: set[int] = set()
        _flag(plpy, memory, finding_id, None, changed)
        tell_refresh(plpy, memory, changed)
