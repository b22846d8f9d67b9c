"""ubp.check_quality: what the rules find now, and what became of what they found before."""

import json
import time
from collections.abc import Callable
from typing import Any

from ubp_sql.api.quality_findings import Finding, Kept, dismiss_finding, store, tell_refresh
from ubp_sql.api.quality_profile import Profile
from ubp_sql.api.quality_rules import Rule, active_rules, define_quality_rule
from ubp_sql.api.quality_sql import meets
from ubp_sql.api.quality_times import gaps, impossible_times, swapped_dates
from ubp_sql.api.quality_users import duplicates, rates
from ubp_sql.api.quality_values import drift, outliers
from ubp_sql.api.session import Row, check_version, entry, run

__all__ = ["check_quality", "define_quality_rule", "dismiss_finding"]

Check = Callable[[Any, dict[str, Any], Rule, Profile], list[Finding]]
CHECKS: dict[str, Check] = {
    "swapped_dates": swapped_dates,
    "impossible_times": impossible_times,
    "duplicates": duplicates,
    "rate": rates,
    "outliers": outliers,
    "gaps": gaps,
    "drift": drift,
    "sql": meets,
}
# Two checks at once would each see half of what the other one writes.
LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.check_quality', 0))"
INACTIVE = """
select q.rule from ubp.quality_findings q join ubp.quality_rules r using (rule)
 where not r.active and q.resolved_at is null group by q.rule order by q.rule"""
RECORD = """
insert into ubp.job_runs (job, state, started_at, finished_at, rows, detail)
values ('check_quality', 'done', clock_timestamp() - $1 * interval '1 second', clock_timestamp(), $2, $3::jsonb)"""


@entry
def check_quality(plpy: Any, memory: dict[str, Any], since: str | None, rule: str | None) -> list[Row]:
    """Goes through the rules; returns a row a rule.

    since  findings that end before it are left as they are
    rule   that one alone; None: every active one, and findings of the others are resolved

    Raises NotReady (UB005) where there is no such rule, BadInput (UB003) where a rule's settings cannot be.
    """
    check_version(plpy, memory)
    started = time.perf_counter()
    run(plpy, memory, LOCK, [], [])
    rules = active_rules(plpy, memory, rule)
    profile = Profile(plpy, memory, rules)
    changed: set[int] = set()
    rows = []
    for one in rules:
        begun = time.perf_counter()
        plpy.debug(f"ubp: checking {one.rule}")
        found = CHECKS[one.check](plpy, memory, one, profile)
        kept = store(plpy, memory, one.rule, found, since, changed)
        rows.append(_row(one.rule, kept, time.perf_counter() - begun))
    if rule is None:
        for row in run(plpy, memory, INACTIVE, [], []):
            rows.append(_row(row["rule"], store(plpy, memory, row["rule"], [], None, changed), 0.0))
    tell_refresh(plpy, memory, changed)
    seconds = time.perf_counter() - started
    findings = sum(row["findings"] for row in rows)
    detail = json.dumps({"rule": rule, "since": since, "events": profile.events, "rules": len(rules)})
    run(plpy, memory, RECORD, ["double precision", "bigint", "text"], [seconds, findings, detail])
    return rows


def _row(rule: str, kept: Kept, seconds: float) -> Row:
    return {
        "rule_name": rule,
        "findings": kept.findings,
        "new": kept.new,
        "gone": kept.gone,
        "events": kept.events,
        "seconds": round(seconds, 3),
    }
