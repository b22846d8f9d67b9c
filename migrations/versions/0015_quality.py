"""Rules of data quality, what they found, and which events they speak of; event columns that are flags.

Locks: access exclusive on ubp.event_columns, for a check that a handful of rows meet; share update exclusive on
ubp.job_runs, for a comment.
"""

import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)
NOW = sa.text("now()")
JSONB = postgresql.JSONB(astext_type=sa.Text())
JOB = "refresh_features, score_users, training_set or check_quality"
OLD_JOB = "refresh_features, score_users or training_set"
SUBJECT = "event, item: the event's item, or flag: open findings about the event"
OLD_SUBJECT = "event, or item: the event's item"
ATTRIBUTE = "key in events.attributes, item_attributes.name, or a rule (* = any)"
OLD_ATTRIBUTE = "key in events.attributes, or item_attributes.name"
GRANTS = {
    "select on ubp.quality_rules, ubp.quality_findings": "ubp_reader, ubp_loader, ubp_analyst, ubp_auditor",
    "select on ubp.flagged_events": "ubp_reader, ubp_loader, ubp_auditor",
    "insert, update, delete on ubp.quality_rules": "ubp_admin",
}
# (rule, check, settings, meaning)
SHIPPED: tuple[tuple[str, str, dict[str, object], str], ...] = (
    (
        "swapped_dates",
        "swapped_dates",
        {"off_days": 20},
        "Times whose day and month were swapped: so they fit their neighbours, as they are they do not.",
    ),
    (
        "impossible_times",
        "impossible_times",
        {"ahead_s": 600, "apart_days": 365},
        "Times in the future, after the event's arrival, or a year and more away from all others.",
    ),
    (
        "duplicates",
        "duplicates",
        {},
        "Events that say again what another one says: all but the one that arrived first.",
    ),
    (
        "bots",
        "rate",
        {
            "windows": [
                {"seconds": 10, "events": 100, "step": 1},
                {"seconds": 600, "events": 600, "step": 1},
                {"seconds": 3600, "events": 36000, "step": 60},
            ],
            "active": 0.5,
        },
        "Users with more events than a person can make, in moment after moment.",
    ),
    (
        "outliers",
        "outliers",
        {"columns": ["value", "quantity", "duration_s"], "score": 3.5, "times": 2, "margin": 7, "events": 100},
        "Values far beyond the tail of their kind, on a log scale.",
    ),
    (
        "gaps",
        "gaps",
        {"hours": 3, "weeks": 4, "margin": 4, "quiet": ["12-20..01-06"], "ended_days": 30},
        "Silences that the feed's own rhythm by hour of the week does not explain.",
    ),
    (
        "drift",
        "drift",
        {"share": 0.2, "scale": 5, "weeks": 4, "events": 100},
        "A source that changed: a column that empties or fills, a kind that comes or goes, values on another scale.",
    ),
)


def upgrade() -> None:
    op.create_table(
        "quality_rules",
        sa.Column("rule", sa.Text(), nullable=False, comment="name"),
        sa.Column(
            "check_name",
            sa.Text(),
            nullable=False,
            comment="swapped_dates, impossible_times, duplicates, rate, outliers, gaps, drift or sql",
        ),
        sa.Column(
            "settings",
            JSONB,
            server_default="{}",
            nullable=False,
            comment="settings of the check; what is left out is as docs/quality.md says",
        ),
        sa.Column("source", sa.Text(), nullable=True, comment="ubp.sources.name; NULL = each source"),
        sa.Column(
            "active",
            sa.Boolean(),
            server_default="true",
            nullable=False,
            comment="false: the next check resolves what it found",
        ),
        sa.Column("meaning", sa.Text(), nullable=False, comment="what it finds, in a sentence"),
        sa.CheckConstraint("rule ~ '^[a-z][a-z0-9_]{0,62}$'", name=op.f("quality_rules_rule_check")),
        sa.CheckConstraint(
            "check_name in ('swapped_dates', 'impossible_times', 'duplicates', 'rate', 'outliers', 'gaps', 'drift', "
            "'sql')",
            name=op.f("quality_rules_check_name_check"),
        ),
        sa.CheckConstraint("jsonb_typeof(settings) = 'object'", name=op.f("quality_rules_settings_check")),
        sa.PrimaryKeyConstraint("rule", name=op.f("quality_rules_pkey")),
        schema="ubp",
        comment="Rules of data quality: what ubp.check_quality looks for; rows may be added, changed and switched off.",
    )
    op.create_table(
        "quality_findings",
        sa.Column(
            "finding_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="number of the finding"
        ),
        sa.Column("rule", sa.Text(), nullable=False, comment="rule that found it"),
        sa.Column("subject", sa.Text(), nullable=False, comment="what it is about: a rule finds it once"),
        sa.Column("source", sa.Integer(), nullable=True, comment="source of the events; NULL = of several"),
        sa.Column("severity", sa.Text(), nullable=False, comment="low, medium or high"),
        sa.Column("user_id", sa.BigInteger(), nullable=True, comment="the user, where it is about one"),
        sa.Column("first_event", sa.BigInteger(), nullable=True, comment="lowest event_id of the events"),
        sa.Column("last_event", sa.BigInteger(), nullable=True, comment="highest event_id of the events"),
        sa.Column("from_time", TIME, nullable=True, comment="earliest moment that it speaks of"),
        sa.Column("until_time", TIME, nullable=True, comment="latest"),
        sa.Column("events", sa.BigInteger(), nullable=False, comment="events that it speaks of"),
        sa.Column("first_seen", TIME, server_default=NOW, nullable=False, comment="check that found it first"),
        sa.Column("last_seen", TIME, server_default=NOW, nullable=False, comment="last check that found it"),
        sa.Column("resolved_at", TIME, nullable=True, comment="check that no longer found it; NULL = it holds"),
        sa.Column(
            "dismissed_at", TIME, nullable=True, comment="since when it is taken as right: its events are not flagged"
        ),
        sa.Column("dismissed_by", sa.Text(), nullable=True, comment="role that said so"),
        sa.Column("sentence", sa.Text(), nullable=False, comment="what is wrong, in plain words"),
        sa.Column("example", sa.Text(), nullable=True, comment="one of the events, or a figure"),
        sa.Column("way_out", sa.Text(), nullable=False, comment="what to do"),
        sa.Column("detail", JSONB, server_default="{}", nullable=False, comment="figures behind the sentence"),
        sa.CheckConstraint("severity in ('low', 'medium', 'high')", name=op.f("quality_findings_severity_check")),
        sa.ForeignKeyConstraint(
            ["rule"], ["ubp.quality_rules.rule"], name=op.f("quality_findings_rule_fkey"), onupdate="CASCADE"
        ),
        sa.PrimaryKeyConstraint("finding_id", name=op.f("quality_findings_pkey")),
        sa.UniqueConstraint("rule", "subject", name=op.f("quality_findings_rule_subject_key")),
        schema="ubp",
        comment="What rules of data quality found: a row a finding, updated by each check, resolved but never deleted.",
    )
    op.create_table(
        "flagged_events",
        sa.Column("finding_id", sa.BigInteger(), nullable=False, comment="finding that speaks of the event"),
        sa.Column("event_id", sa.BigInteger(), nullable=False, comment="event"),
        sa.Column("event_time", TIME, nullable=False, comment="its time"),
        sa.Column("user_id", sa.BigInteger(), nullable=False, comment="its user"),
        sa.ForeignKeyConstraint(
            ["finding_id"], ["ubp.quality_findings.finding_id"], name=op.f("flagged_events_finding_id_fkey")
        ),
        sa.PrimaryKeyConstraint("finding_id", "event_id", name=op.f("flagged_events_pkey")),
        schema="ubp",
        comment="Events that open findings speak of; nothing is dropped, features may leave them out.",
    )
    op.create_index(op.f("flagged_events_event_id_idx"), "flagged_events", ["event_id"], unique=False, schema="ubp")
    op.create_index(op.f("flagged_events_user_id_idx"), "flagged_events", ["user_id"], unique=False, schema="ubp")
    for rule, check, settings, meaning in SHIPPED:
        values = (rule, check, json.dumps(settings), meaning)
        quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        op.execute(f"insert into ubp.quality_rules (rule, check_name, settings, meaning) values ({quoted})")  # noqa: S608
    for right, roles in GRANTS.items():
        op.execute(f"grant {right} to {roles}")
    _subjects("'event', 'item', 'flag'", SUBJECT, ATTRIBUTE)
    op.alter_column("job_runs", "job", comment=JOB, schema="ubp")


def downgrade() -> None:
    # Places among the declared columns are places in the mirror's chunks.
    op.execute(
        """with gone as (delete from ubp.event_columns where "of" = 'flag' returning 1)
           insert into ubp.event_log (op) select 'R' where exists (select from gone)"""
    )
    _subjects("'event', 'item'", OLD_SUBJECT, OLD_ATTRIBUTE)
    op.alter_column("job_runs", "job", comment=OLD_JOB, schema="ubp")
    op.drop_table("flagged_events", schema="ubp")
    op.drop_table("quality_findings", schema="ubp")
    op.drop_table("quality_rules", schema="ubp")


def _subjects(subjects: str, comment: str, attribute: str) -> None:
    op.drop_constraint(op.f("event_columns_of_check"), "event_columns", schema="ubp")
    op.create_check_constraint(op.f("event_columns_of_check"), "event_columns", f'"of" in ({subjects})', schema="ubp")
    op.alter_column("event_columns", "of", comment=comment, schema="ubp")
    op.alter_column("event_columns", "attribute", comment=attribute, schema="ubp")
