"""Tables of schema `ubp`: rules of data quality, what they found, and the events they speak of."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from ubp_sql.schema.base import NOW, TIME, column, identity, table

CHECKS = "'swapped_dates', 'impossible_times', 'duplicates', 'rate', 'outliers', 'gaps', 'drift', 'sql'"

quality_rules = table(
    "quality_rules",
    "Rules of data quality: what ubp.check_quality looks for; rows may be added, changed and switched off.",
    column("rule", sa.Text(), "name", primary_key=True),
    column(
        "check_name",
        sa.Text(),
        "swapped_dates, impossible_times, duplicates, rate, outliers, gaps, drift or sql",
        nullable=False,
    ),
    column(
        "settings",
        JSONB(),
        "settings of the check; what is left out is as docs/quality.md says",
        nullable=False,
        server_default="{}",
    ),
    column("source", sa.Text(), "ubp.sources.name; NULL = each source"),
    column(
        "active", sa.Boolean(), "false: the next check resolves what it found", nullable=False, server_default="true"
    ),
    column("meaning", sa.Text(), "what it finds, in a sentence", nullable=False),
    sa.CheckConstraint("rule ~ '^[a-z][a-z0-9_]{0,62}$'", name="rule"),
    sa.CheckConstraint(f"check_name in ({CHECKS})", name="check_name"),
    sa.CheckConstraint("jsonb_typeof(settings) = 'object'", name="settings"),
)

quality_findings = table(
    "quality_findings",
    "What rules of data quality found: a row a finding, updated by each check, resolved but never deleted.",
    identity("finding_id", "number of the finding"),
    column(
        "rule",
        sa.Text(),
        "rule that found it",
        sa.ForeignKey("ubp.quality_rules.rule", onupdate="CASCADE"),
        nullable=False,
    ),
    column("subject", sa.Text(), "what it is about: a rule finds it once", nullable=False),
    column("source", sa.Integer(), "source of the events; NULL = of several"),
    column("severity", sa.Text(), "low, medium or high", nullable=False),
    column("user_id", sa.BigInteger(), "the user, where it is about one"),
    column("first_event", sa.BigInteger(), "lowest event_id of the events"),
    column("last_event", sa.BigInteger(), "highest event_id of the events"),
    column("from_time", TIME, "earliest moment that it speaks of"),
    column("until_time", TIME, "latest"),
    column("events", sa.BigInteger(), "events that it speaks of", nullable=False),
    column("first_seen", TIME, "check that found it first", nullable=False, server_default=NOW),
    column("last_seen", TIME, "last check that found it", nullable=False, server_default=NOW),
    column("resolved_at", TIME, "check that no longer found it; NULL = it holds"),
    column("dismissed_at", TIME, "since when it is taken as right: its events are not flagged"),
    column("dismissed_by", sa.Text(), "role that said so"),
    column("sentence", sa.Text(), "what is wrong, in plain words", nullable=False),
    column("example", sa.Text(), "one of the events, or a figure"),
    column("way_out", sa.Text(), "what to do", nullable=False),
    column("detail", JSONB(), "figures behind the sentence", nullable=False, server_default="{}"),
    sa.CheckConstraint("severity in ('low', 'medium', 'high')", name="severity"),
    sa.UniqueConstraint("rule", "subject"),
)

flagged_events = table(
    "flagged_events",
    "Events that open findings speak of; nothing is dropped, features may leave them out.",
    column(
        "finding_id",
        sa.BigInteger(),
        "finding that speaks of the event",
        sa.ForeignKey("ubp.quality_findings.finding_id"),
        primary_key=True,
        autoincrement=False,
    ),
    column("event_id", sa.BigInteger(), "event", primary_key=True, autoincrement=False, index=True),
    column("event_time", TIME, "its time", nullable=False),
    column("user_id", sa.BigInteger(), "its user", nullable=False, index=True),
)
