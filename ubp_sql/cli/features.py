"""`ubp-sql features`: what a feature set holds, and definitions from a file."""

import json as to_json
from pathlib import Path
from typing import Annotated, Any

import typer

from ubp_sql.cli.run_jobs import print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, guarded, out
from ubp_sql.errors import no_such_set
from ubp_sql.install import state

app = typer.Typer(no_args_is_help=True, help="Feature definitions: apply | list | export.")
Set = Annotated[str, typer.Option("--feature-set", help="Which set.")]
SPECS = """
select d.spec from ubp.feature_definitions d join ubp.feature_sets s using (feature_set_id)
 where s.name = %s order by d.position"""
LISTED = """
select position, feature, family as aggregate, kind, time_window as window, unit, sql_type as type, meaning, null_rule,
       edge_rule, cost
  from ubp.feature_catalogue where feature_set = %s order by position"""


@app.command()
@guarded
def apply(
    file: Annotated[Path, typer.Argument(help="YAML file of features.", show_default=False)],
    feature_set: Set = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything, say what came of it, undo it.")] = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Add a file's features to a set, all or none; those that are there already change nothing."""
    from ubp_sql.sources.feature_file import read_features

    features = read_features(file)
    with connection(dsn) as conn:
        before = _columns(conn, feature_set)
        with conn.transaction(force_rollback=dry_run):
            state.rows(conn, "select ubp.define_features(%s::jsonb, %s)", to_json.dumps(features), feature_set)
            after = _columns(conn, feature_set)
    new = after[len(before) :]
    if json:
        print_rows([{"feature_set": feature_set, "features": len(after), "new": new, "dry_run": dry_run}], True)
        return
    for name in new:
        out.print(f"+ {name}", markup=False)
    verb = "would have" if dry_run else "has"
    out.print(f"set {feature_set} {verb} {len(after)} features, {len(new)} of them new", markup=False)
    if new and not dry_run:
        which = "" if feature_set == "default" else f" --feature-set {feature_set}"
        out.print(f"the next refresh computes them: ubp-sql refresh{which}", markup=False)


def _columns(conn: Any, feature_set: str) -> list[str]:
    query = "select feature from ubp.feature_catalogue where feature_set = %s order by position"
    return [row["feature"] for row in state.rows(conn, query, feature_set)]


@app.command("list")
@guarded
def list_features(feature_set: Set = "default", dsn: Dsn = "", json: AsJson = False) -> None:
    """Every feature of a set: unit, meaning, when it is NULL, what it costs."""
    with connection(dsn) as conn:
        rows = _of_set(conn, LISTED, feature_set)
    shown = rows if json else [{name: row[name] for name in list(row)[:8]} for row in rows]
    print_rows(shown, json)


@app.command()
@guarded
def export(
    feature_set: Set = "default",
    to: Annotated[Path | None, typer.Option("--out", help="File to write; default: print.")] = None,
    dsn: Dsn = "",
) -> None:
    """A set's definitions as YAML, to be applied to another set or database."""
    from ubp_sql.sources.feature_file import write_features

    with connection(dsn) as conn:
        rows = _of_set(conn, SPECS, feature_set)
    specs: dict[str, dict[str, Any]] = {row["spec"]["name"]: row["spec"] for row in rows}
    text = write_features(list(specs.values()), f"feature set {feature_set}")
    if to is None:
        out.print(text, markup=False, end="")
    else:
        to.write_text(text, encoding="utf-8")


def _of_set(conn: Any, query: str, feature_set: str) -> list[dict[str, Any]]:
    rows = state.rows(conn, query, feature_set)
    if not rows:
        names = [row["name"] for row in state.rows(conn, "select name from ubp.feature_sets order by name")]
        raise no_such_set(feature_set, names)
    return rows
