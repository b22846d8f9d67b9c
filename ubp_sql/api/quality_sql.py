"""The check `sql`: events that meet a condition of one's own, an expression over the columns of ubp.events."""

import re
from typing import Any

from ubp_sql.api.attach_compile import condition
from ubp_sql.api.attach_relation import DESCRIBE, Relation, number
from ubp_sql.api.quality_findings import Finding, grouped
from ubp_sql.api.quality_profile import ROWS, Profile
from ubp_sql.api.quality_rules import Rule
from ubp_sql.api.session import run, sqlstate
from ubp_sql.errors import BadInput

# Functions of ours may run as their owner here and trust what they are given; an expression has no need of them.
OURS = re.compile(r'(?:\bubp|"ubp")\s*\.')
MEETS = f"""
select string_agg(timestamptz_send(e.event_time), '') as t, string_agg(int8send(e.event_id), '') as event_id,
       string_agg(int8send(e.user_id), '') as user_id, string_agg(int8send(e.source), '') as key
  from {ROWS} e where ({{condition}})"""  # noqa: S608 - constants only


def compiled(plpy: Any, memory: dict[str, Any], rule: str, text: str) -> str:
    """The expression as the server writes it. Raises BadInput (UB003) on what is none, or not IMMUTABLE."""
    events = Relation(**run(plpy, memory, DESCRIBE, ["bigint"], [number(plpy, memory, "ubp.events")])[0])
    found = condition(plpy, memory, events, f"rule {rule!r}", text)
    if OURS.search(text) or OURS.search(found):
        raise BadInput(f"rule {rule!r}: functions of schema ubp cannot be called here", "PostgreSQL's own can")
    return found


def meets(plpy: Any, memory: dict[str, Any], rule: Rule, profile: Profile) -> list[Finding]:
    """A finding a source with events that meet the condition."""
    text = str(rule.settings["expression"])
    try:
        rows = plpy.execute(MEETS.format(condition=compiled(plpy, memory, rule.rule, text)))
    except plpy.SPIError as error:
        if sqlstate(error)[:2] != "22":
            raise
        said = str(error).splitlines()[0]
        raise BadInput(f"rule {rule.rule!r}: {said}", "case when ... end keeps such events out") from None
    found = []
    for source, flags in sorted(grouped(rows[0], "key").items()):
        if rule.source in (None, source):
            n = len(flags)
            found.append(
                Finding(
                    subject=f"source {source}",
                    source=source,
                    severity="medium",
                    sentence=f"{n:,} {'event meets' if n == 1 else 'events meet'} the condition {text}",
                    way_out="what the rule's meaning says",
                    events=n,
                    from_us=int(flags.t_us.min()),
                    until_us=int(flags.t_us.max()),
                    flags=flags,
                )
            )
    return found
