"""What `ubp-sql model export --sql` reads: a version, its feature set, its calibration map and what zones there are."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from ubp_sql.cli.shared import warn
from ubp_sql.errors import NoModelDeployed, unknown_task
from ubp_sql.export.tier import Exported, Holiday, Source, exported_of, file_of

FOUND = """
select m.version, m.compiled, t.meaning, t.population_kind, s.name as feature_set, s.definition::text as definition,
       s.time_zone, s.hash = m.feature_set_hash as same_set, c.method, c.x, c.y
  from ubp.task_definitions t
  left join ubp.deployments d on d.task = t.task and d.deployed_at <= statement_timestamp()
                             and d.retired_at > statement_timestamp()
  left join ubp.models m on m.task = t.task and m.version = coalesce(%(version)s, d.version)
  left join ubp.calibration_maps c on c.map_id = d.map_id and d.model_id = m.model_id
  left join ubp.feature_sets s on s.feature_set_id = m.feature_set_id
 where t.task = %(task)s"""
SOURCES = "select source_id, name, time_zone from ubp.sources order by source_id"
HOLIDAYS = """
select day, region, name from ubp.calendar where kind = 'holiday' and region in ('', %s) order by day, region, name"""
LEFT_OUT = """
select exists (select from ubp.user_members) as linked,
       exists (select from ubp.task_policies where task = %s and num_nonnulls(least_events, most_age) > 0) as abstains,
       exists (select from ubp.attached_sources) as attached,
       exists (select from ubp.deployments d join ubp.deployment_arms a using (deployment_id)
                where d.task = %s and a.role = 'challenger' and d.deployed_at <= statement_timestamp()
                  and d.retired_at > statement_timestamp()) as challenged"""
WARNINGS = {
    "linked": "users are linked here (ubp.link_users), and the file knows no links: give events their user's id",
    "abstains": "the task abstains at times (ubp.set_abstention), and the file does not: it answers always",
    "attached": "sources are attached here (ubp.attach_source), and the file has none: make ubp.events a view of them",
    "challenged": "a challenger answers for some users here; the file has one version",
}


def sql_of(conn: psycopg.Connection[Any], task: str, version: int | None) -> str:
    """The file of a version, of the one that answers where none is named; raises as `exported` and `file_of` do."""
    return file_of(exported(conn, task, version))


def exported(conn: psycopg.Connection[Any], task: str, version: int | None) -> Exported:
    """What a version's file is made of.

    Raises UnknownTask (UB001), NoModelDeployed (UB004), and as `exported_of`.
    """
    with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        row = cursor.execute(FOUND, {"task": task, "version": version}).fetchone()
        if row is None:
            raise unknown_task(task)
        if row["version"] is None:
            which = "no deployed model" if version is None else f"no version {version}"
            raise NoModelDeployed(f"task {task!r} has {which}", "`ubp-sql model list` shows what there is")
        sources = [Source(**found) for found in cursor.execute(SOURCES)]
        holidays = [Holiday(**found) for found in cursor.execute(HOLIDAYS, [row["time_zone"]])]
        left_out = cursor.execute(LEFT_OUT, [task, task]).fetchone() or {}
    for what, warning in WARNINGS.items():
        if left_out.get(what):
            warn(warning)
    return exported_of(task, row, sources, holidays)
