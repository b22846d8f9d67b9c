"""Which commands go to a GPU: those that are told to, and by default those that figures say are sooner done there."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ubp_sql.cli.shared import err, note

if TYPE_CHECKING:
    from ubp_sql.training.rows import Source
    from ubp_sql.worker.choice import Choose

Gpu = Annotated[
    bool | None,
    typer.Option(
        "--gpu/--no-gpu",
        metavar="",
        help="Compute features on this machine's GPU, or in the server; default: whichever `ubp-sql bench --calibrate`"
        " found to be faster; a refresh without --steps is the server's.",
    ),
]


def asked_for(gpu: bool | None) -> bool | None:
    """What the user asked for; False with one line that says why where he asked for a card that is not there."""
    if gpu:
        from ubp_sql.worker.choice import fault

        if why := fault():
            err.print(f"no GPU: {why}; the CPU computes", markup=False)
            return False
    return gpu


def choice_of(gpu: bool | None, conn: Any) -> "Choose | None":
    """Where what this server could compute is computed; None: all of it there.

    gpu  as `asked_for` gives it
    """
    if gpu is False:
        return None
    from ubp_sql.worker.choice import here_or_server, only_gpu

    return only_gpu if gpu else here_or_server(conn)


def source_of(gpu: bool | None, conn: Any) -> "Source":
    """Where training rows come from."""
    from ubp_sql.training import rows

    choose = choice_of(gpu, conn)
    if choose is None:
        return rows.batches
    from ubp_sql.worker.training import batches

    return lambda conn, question: batches(conn, question, choose, note)
