"""`ubp-sql calibrate`: scores that come true as often as they say."""

from typing import Annotated, Any

import typer

from ubp_sql.cli.run_jobs import Task, print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, err, guarded, out, print_json
from ubp_sql.errors import BadInput
from ubp_sql.install import state

METHODS = "auto", "isotonic", "platt"
SERVING = "select role, version from ubp.deployed_versions where task = %s and role <> 'next'"
USE = "select ubp.use_calibration(%s, %s)"


@guarded
def calibrate(
    task: Task,
    version: Annotated[int | None, typer.Argument(help="Version; default: the newest.")] = None,
    method: Annotated[
        str, typer.Option("--method", help="isotonic, platt, or auto: the better one, if better than no map.")
    ] = "auto",
    none: Annotated[bool, typer.Option("--none", help="The version that answers shall speak without a map.")] = False,
    cut: Annotated[
        list[str] | None,
        typer.Option("--cut", help="Moment(s) after the training to score first, as the map's last evidence."),
    ] = None,
    no_deploy: Annotated[bool, typer.Option("--no-deploy", help="Fit only: the map answers later.")] = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Fit a calibration map on held-out scores of a version, and let it answer through it if it serves."""
    from ubp_sql.training.calibrate import calibrate as run
    from ubp_sql.training.calibrate import score_later
    from ubp_sql.training.cuts import parse_cut

    if method not in METHODS:
        raise BadInput(f"--method is {method!r}", ", ".join(METHODS))
    if none and (cut or version is not None or method != "auto"):
        raise BadInput("--none takes no version, --method or --cut", "it only takes the map away from what answers")
    cuts = [parse_cut(text) for text in cut or []]
    with connection(dsn) as conn:
        if none:
            number = state.one(conn, USE, task, None)
            _done({"task": task, "version": number, "map_id": None}, [], f"{task} {number} answers without a map", json)
            return
        with err.status("calibrating"), conn.transaction():
            if cuts:
                version = score_later(conn, task, version, cuts)
            found = run(conn, task, version, method)
            serving = [row["version"] for row in state.rows(conn, SERVING, task)]
            used = found.map_id is not None and found.version in serving and not no_deploy
            if used:
                state.one(conn, USE, task, found.map_id)
    result = {"task": task, "version": found.version, "map_id": found.map_id, "method": found.method, "deployed": used}
    end = f"{task} {found.version} answers through it" if used else "nothing that answers has changed"
    _done(result, found.report, f"{found.words}; {end}", json)


def _done(result: dict[str, Any], report: list[dict[str, Any]], line: str, json: bool) -> None:
    if json:
        print_json({**result, "tests": report})
        return
    if report:
        print_rows(report, False)
    out.print(line, markup=False)
