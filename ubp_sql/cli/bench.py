"""`bench --calibrate`: figures by which `refresh`, `train` and `training-set` choose where to compute."""

from typing import Annotated

import typer

from ubp_sql.cli.run_jobs import print_rows
from ubp_sql.cli.shared import AsJson, Dsn, connection, guarded, note, print_json
from ubp_sql.errors import BadInput, NotReady


@guarded
def bench(
    calibrate: Annotated[
        bool, typer.Option("--calibrate", metavar="", help="Measure CPU and GPU at several sizes and keep the figures.")
    ] = False,
    dsn: Dsn = "",
    json: AsJson = False,
) -> None:
    """Measure from which size on this machine's GPU is sooner done than its CPU, and than this server."""
    from ubp_sql.worker import choice
    from ubp_sql.worker.calibrate import calibrate as measure

    if not calibrate:
        raise BadInput("bench measures nothing by itself", "ubp-sql bench --calibrate")
    if why := choice.fault():
        raise NotReady(f"no GPU: {why}", "nothing is to be chosen: all work goes to the CPU")
    with connection(dsn) as conn:
        figures = measure((lambda line: None) if json else note, conn=conn)
    found = [
        {"work": kind, "gpu_from": figures.break_even(kind), "card": figures.machine.card, "file": str(choice.path())}
        for kind in figures.measured
    ]
    print_json(found) if json else print_rows(found, False)
