"""`ubp-sql model`: versions into the registry, into service, beside it and out of it."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg.rows import dict_row

from ubp_sql.cli.run_jobs import Task, print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json, warn
from ubp_sql.cli.sql_tier import sql_of
from ubp_sql.errors import BadInput, NoModelDeployed, UnsupportedModel
from ubp_sql.install import state
from ubp_sql.training.first_run import check_model
from ubp_sql.training.prepared_file import behind_preparation
from ubp_sql.training.whole_file import check as check_file
from ubp_sql.training.whole_file import write_whole

app = typer.Typer(
    no_args_is_help=True,
    help="Models: import | check | study | export | list | show | deploy | challenge | shadow | rollback | retire.",
)
Version = Annotated[int, typer.Argument(help="Version: `ubp-sql model list` shows them.")]
LISTED = """
select task, version, deployed, status, auc, tested, format, trees, feature_set, created_at, retired_at
  from ubp.model_versions order by task, version"""
SHOWN = """
select v.task, v.version, v.deployed, v.status, v.checked, v.format, v.objective, v.trees, v.feature_set,
       v.feature_set_hash, v.data_from, v.data_until, v.settings, v.code_version, v.created_by, v.created_at,
       v.retired_at, v.preparation
  from ubp.model_versions v
 where v.task = %(task)s
   and v.version = coalesce(%(version)s,
         (select d.version from ubp.deployed_versions d where d.task = %(task)s and d.role = 'champion'),
         (select max(n.version) from ubp.model_versions n where n.task = %(task)s))"""
# The counts of features and outputs lie in the header of every compiled form (models/blob.py, models/linear.py).
KIND = """
select m.format, m.objective,
       case encode(substr(m.compiled, 1, 8), 'escape')
         when 'UBPTREES' then m.trees || case m.trees when 1 then ' tree' else ' trees' end
         when 'UBPLINEA' then (get_byte(m.compiled, 16) + 256 * get_byte(m.compiled, 17))
                            * (get_byte(m.compiled, 32) + 256 * get_byte(m.compiled, 33)) || ' weights'
         when 'UBPPREPA' then case when m.trees > 0 then m.trees || ' trees' else 'a linear model' end
         else 'a network' end || case when m.preparation is null then '' else ' behind a preparation' end as form
  from ubp.models m where m.task = %s and m.version = %s"""
FEATURES = """
select d.name from ubp.task_definitions t join ubp.feature_definitions d using (feature_set_id)
 where t.task = %s order by d.position"""
METRICS = """
select x.cut, x.metric, x.value, x.n, x.positives, x.protocol
  from ubp.model_metrics x join ubp.models m using (model_id)
 where m.task = %s and m.version = %s order by x.cut, x.metric"""
STUDY = "select ubp.study_model(%s, %s, %s, %s) as version"
IMPORTANCE = """
select rank, feature, importance, share, permutation, typical, meaning
  from ubp.feature_importance where task = %s and version = %s and importance > 0 order by rank limit %s"""
STUDIED = "select distinct as_of, sampled, users, method from ubp.feature_importance where task = %s and version = %s"
SERVING = """
select d.role, d.version, d.share, d.map_id, c.method as map, d.since, d.until, d.deployed_by
  from ubp.deployed_versions d left join ubp.calibration_maps c using (map_id)
 where d.task = %s order by d.role = 'next', d.role, d.version"""


@app.command("import")
@guarded
def import_model(
    task: Task,
    file: Annotated[Path, typer.Argument(help="Model file.", show_default=False)],
    prepare: Annotated[
        Path | None,
        typer.Option("--prepare", help="What is done to the features before it: JSON as training writes it, or steps."),
    ] = None,
    deploy: Annotated[bool, typer.Option("--deploy", help="Let it answer at once.")] = False,
    data_from: Annotated[datetime | None, typer.Option("--data-from", help="Begin of its training data.")] = None,
    data_until: Annotated[datetime | None, typer.Option("--data-until", help="End of its labels.")] = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Check a model, compile it and register it as a task's next version."""
    source = file.read_bytes()
    query = "select ubp.register_model(%s, %s, data_from => %s, data_until => %s) as version"
    warned: list[str] = []
    with connection(dsn) as conn, conn.transaction():
        conn.add_notice_handler(lambda notice: warned.append(notice.message_primary or ""))
        if prepare is not None:
            names = tuple(row["name"] for row in state.rows(conn, FEATURES, task))
            source = behind_preparation(source, prepare, names)
        version = state.rows(conn, query, task, source, data_from, data_until)[0]["version"]
        kind = state.rows(conn, KIND, task, version)[0]
        report = check_model(conn, task, version)
        if deploy and report["ready"]:
            state.rows(conn, "select ubp.deploy_model(%s, %s)", task, version)
    _verdict(task, version, report)
    _say_what_is_missing(report)
    for line in warned:
        warn(line)
    if json:
        print_json({"task": task, "version": version, "deployed": deploy, **kind, "warnings": warned})
        return
    by_name = not any("names no features" in line for line in warned)
    how = "found by their names" if by_name else "taken in the set's order"
    out.print(f"{kind['format']}, {kind['objective']}, {kind['form']}; features {how}", markup=False)
    if deploy:
        out.print(f"{task} is answered by version {version}", markup=False)
    else:
        out.print(f"{task} version {version} is registered: ubp-sql model deploy {task} {version}", markup=False)


@app.command()
@guarded
def check(task: Task, version: Version, dsn: Dsn = "", json: AsJson = False) -> None:
    """Run a neural network for the first time, in a process of its own: what is not ready cannot be deployed."""
    with connection(dsn) as conn, conn.transaction():
        report = check_model(conn, task, version)
    _verdict(task, version, report)
    if json:
        print_json({"task": task, "version": version, **report})
    elif report["rows"]:
        took = f"{report['seconds_per_row'] * 1e6:,.0f} us a row, {report['peak_bytes'] / 2**20:,.0f} MB"
        out.print(f"{task} version {version} is ready: {took}", markup=False)
        _say_what_is_missing(report)
    else:
        out.print(f"{task} version {version} is ready: only neural networks need a first run", markup=False)


def _say_what_is_missing(report: dict[str, Any]) -> None:
    if report.get("no_score_if_missing"):
        err.print("users with a missing feature (NaN) get no score: the graph has to fill it in", markup=False)


def _verdict(task: str, version: int, report: dict[str, Any]) -> None:
    """Raises UnsupportedModel (UB007) where the first run, now on record, went badly."""
    if not report["ready"]:
        raise UnsupportedModel(
            f"version {version} of {task!r} is registered and refused: {report['reason']}",
            "change the network and register it again",
        )


@app.command()
@guarded
def export(
    task: Task,
    to: Annotated[Path, typer.Option("--out", help="File to write.")],
    version: Annotated[int | None, typer.Argument(help="Default, with --sql: the one that answers.")] = None,
    as_sql: Annotated[
        bool,
        typer.Option("--sql", help="As plain SQL with its features, for a server without PL/Python."),
    ] = False,
    dsn: Dsn = "",
) -> None:
    """Write a version as the file it was registered from, or as SQL for servers that refuse untrusted languages."""
    if as_sql:
        check_file(to, f"{task}.sql")
        with connection(dsn) as conn:
            text = sql_of(conn, task, version)
        write_whole(to, text.encode())
        out.print(f"{to}: {len(text.encode()) / 1e6:.2f} MB; psql -X -v ON_ERROR_STOP=1 -f {to} DATABASE", markup=False)
        return
    if version is None:
        raise BadInput("the version is missing", "name it, or add --sql: `ubp-sql model list` shows the versions")
    query = "select source from ubp.models where task = %s and version = %s"
    with connection(dsn) as conn, conn.cursor(row_factory=dict_row, binary=True) as cursor:
        row = cursor.execute(query, [task, version]).fetchone()
    if row is None:
        raise _no_version(task, version)
    write_whole(to, row["source"])


@app.command("list")
@guarded
def list_models(dsn: Dsn = "", json: AsJson = False) -> None:
    """Every registered version, its test AUC, and which one answers."""
    with connection(dsn) as conn:
        print_rows(state.rows(conn, LISTED), json)


@app.command()
@guarded
def show(
    task: Task,
    version: Annotated[int | None, typer.Argument(help="Default: the one that answers, else the newest.")] = None,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """A version's lineage and metrics, and who answers for its task, through which calibration map."""
    with connection(dsn) as conn, conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(SHOWN, {"task": task, "version": version}).fetchone()
        if found is None:
            raise _no_version(task, version)
        metrics = state.rows(conn, METRICS, task, found["version"])
        serving = state.rows(conn, SERVING, task)
    if json:
        print_json({**found, "metrics": metrics, "serving": serving})
        return
    prepared = found.pop("preparation")
    for name, value in found.items():
        out.print(f"{name:17} {'' if value is None else value}", markup=False)
    shown = [("tests", metrics), ("who answers", serving)]
    if prepared is not None:
        shown.insert(0, ("preparation", [_shown_step(step) for step in prepared["steps"]]))
    for title, rows in shown:
        out.print(f"\n{title}")
        print_rows(rows, False)


@app.command()
@guarded
def study(
    task: Task,
    version: Annotated[int | None, typer.Argument(help="Default: the one that answers, else the newest.")] = None,
    sample: Annotated[int, typer.Option("--sample", help="Users whose stored features are looked at.")] = 1000,
    features: Annotated[int, typer.Option("--features", help="Features whose effects are found, and listed.")] = 20,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Find out what a model's features do on the whole; explanations compare users with the same sample."""
    with connection(dsn) as conn, err.status("studying"):
        done = state.rows(conn, STUDY, task, version, sample, features)[0]["version"]
        rows = state.rows(conn, IMPORTANCE, task, done, max(1, features))
        about = state.rows(conn, STUDIED, task, done)[0]
    if json:
        print_json({"task": task, "version": done, **about, "features": rows})
        return
    said = f"{about['sampled']:,} of {about['users']:,} users as of {about['as_of']:%Y-%m-%d %H:%M %Z}"
    out.print(f"{task} version {done}, {said}; importance: {about['method']}", markup=False)
    print_rows(rows, False)


def _shown_step(step: dict[str, Any]) -> dict[str, Any]:
    """A step of a preparation in a line of a table."""
    names = step["columns"]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return {"step": step["step"], "columns": ", ".join(names[:3]) + more}


@app.command()
@guarded
def deploy(
    task: Task,
    version: Annotated[int | None, typer.Argument(help="Default: the newest.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Take over at this moment, for example '2027-01-01 06:00+00'.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Call off the switch-over that is set.")] = False,
    dsn: Dsn = "",
) -> None:
    """Make a version answer for its task, now or from a moment on."""
    if cancel and (version is not None or at is not None):
        raise BadInput("--cancel takes neither a version nor --at", f"ubp-sql model deploy {task} --cancel")
    query = (
        "select ubp.cancel_deployment(%s) as version" if cancel else "select ubp.deploy_model(%s, %s, %s) as version"
    )
    with connection(dsn) as conn:
        done = state.rows(conn, query, *([task] if cancel else [task, version, at]))[0]["version"]
    if cancel:
        out.print(f"version {done} of {task} will not take over", markup=False)
    else:
        out.print(f"{task} is answered by version {done}{'' if at is None else f' from {at} on'}", markup=False)


@app.command()
@guarded
def challenge(
    task: Task,
    version: Version,
    share: Annotated[float, typer.Option("--share", help="Part of the users, 0-1; 0 ends it.")],
    dsn: Dsn = "",
) -> None:
    """Let a version answer for a share of the users, always the same ones."""
    with connection(dsn) as conn:
        state.rows(conn, "select ubp.challenge_model(%s, %s, %s)", task, version, share)
    what = f"answers for {share:.4g} of the users" if share else "challenges no longer"
    out.print(f"version {version} of {task} {what}", markup=False)


@app.command()
@guarded
def shadow(
    task: Task,
    version: Version,
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
    dsn: Dsn = "",
) -> None:
    """Let `ubp-sql score` store what a version would have said, beside the one that answers."""
    with connection(dsn) as conn:
        state.rows(conn, "select ubp.shadow_model(%s, %s, %s)", task, version, not off)
    what = "is a shadow no longer" if off else f"is a shadow: ubp-sql score {task}, then ubp.shadow_report"
    out.print(f"version {version} of {task} {what}", markup=False)


@app.command()
@guarded
def rollback(task: Task, dsn: Dsn = "") -> None:
    """Make the version before answer again."""
    with connection(dsn) as conn:
        done = state.rows(conn, "select ubp.rollback_model(%s) as version", task)
    out.print(f"{task} is answered by version {done[0]['version']} again", markup=False)


@app.command()
@guarded
def retire(task: Task, version: Version, dsn: Dsn = "") -> None:
    """Take a version out of what can be deployed; its lineage stays."""
    with connection(dsn) as conn:
        state.rows(conn, "select ubp.retire_model(%s, %s)", task, version)
    out.print(f"version {version} of {task} is retired", markup=False)


def _no_version(task: str, version: int | None) -> NoModelDeployed:
    which = "no model" if version is None else f"no version {version}"
    return NoModelDeployed(f"task {task!r} has {which}", "`ubp-sql model list` shows what there is")
