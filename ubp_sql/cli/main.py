"""`ubp-sql`: the command line. Each command is a thin face of a function in the package."""

import typer

import ubp_sql
from ubp_sql.cli import (
    bench,
    calendar,
    calibrate,
    demo,
    embedded,
    features,
    install,
    load,
    model,
    quality,
    refresh,
    report,
    run_jobs,
    source,
    task,
    training_set,
    worker,
)
from ubp_sql.cli.shared import out

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict user behaviour inside PostgreSQL.",
)


@app.callback(invoke_without_command=True)
def main(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        out.print(ubp_sql.__version__)
        raise typer.Exit


app.command("init")(install.init)
app.command("doctor")(install.doctor)
app.command("uninstall")(install.uninstall)
app.add_typer(install.migrate, name="migrate")
app.add_typer(embedded.app, name="embedded")
app.command("load")(load.load)
app.add_typer(source.app, name="source")
app.add_typer(features.app, name="features")
app.add_typer(calendar.app, name="calendar")
app.command("refresh")(refresh.refresh)
app.command("worker")(worker.worker)
app.command("bench")(bench.bench)
app.add_typer(quality.app, name="quality")
app.add_typer(task.app, name="task")
app.command("train")(run_jobs.train)
app.command("calibrate")(calibrate.calibrate)
app.command("training-set")(training_set.training_set)
app.command("score")(run_jobs.score)
app.command("report")(report.report)
app.add_typer(model.app, name="model")
app.command("demo")(demo.demo)


def run() -> None:
    """Entry point of the console script."""
    app()
