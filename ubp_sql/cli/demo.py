"""`ubp-sql demo`: runs the demo and prints what a newcomer wants to see."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ubp_sql.cli.load import shown_progress
from ubp_sql.cli.shared import AsJson, Directory, guarded, note, out, print_json

if TYPE_CHECKING:
    from ubp_sql.embedded.demo import Demo

METRICS = {
    "auc": "AUC",
    "pr_auc": "PR AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "lift_10": "lift in the top 10 %",
}


@guarded
def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="A log of your own; without it a shop is simulated.")
    ] = None,
    map: Annotated[str | None, typer.Option("--map", help="Load map for --data; known logs are recognised.")] = None,
    directory: Directory = Path(".ubp"),
    users: Annotated[int, typer.Option(help="Users of the simulated shop.")] = 6_000,
    days: Annotated[int, typer.Option(help="Days of the simulated shop.")] = 365,
    seed: Annotated[int, typer.Option(help="Seed of the simulated shop: same seed, same bytes.")] = 7,
    json: AsJson = False,
) -> None:
    """From raw events to predictions in a private PostgreSQL cluster, which stays up for you to query."""
    from ubp_sql.embedded.demo import run

    with shown_progress(quiet=json) as progress:
        result = run(directory, data=data, map_name=map, users=users, days=days, seed=seed, say=note, progress=progress)
    if json:
        print_json(as_json(result))
    else:
        show(result)


def as_json(result: "Demo") -> dict[str, object]:
    assert result.loaded is not None  # noqa: S101 - run() filled both
    assert result.trained is not None  # noqa: S101
    return {
        "dsn": result.dsn,
        "loaded": vars(result.loaded),
        "features": result.refreshed,
        "scored": result.scored,
        "tests": [{"cut": t.cut, "n": len(t.rows.labels), "metrics": t.metrics} for t in result.trained.tested],
        "true_auc": result.true_auc,
        "best": [vars(candidate) for candidate in result.best],
        "seconds": result.seconds,
    }


def show(result: "Demo") -> None:
    """Counts, metrics, the best ten, three queries, and how to go on."""
    loaded, trained = result.loaded, result.trained
    assert loaded is not None  # noqa: S101 - run() filled both
    assert trained is not None  # noqa: S101
    reasons = f" ({', '.join(loaded.rejected_by_reason)})" if loaded.rejected else ""
    steps = Table(title="What happened", title_justify="left")
    steps.add_column("step")
    steps.add_column("result")
    steps.add_column("seconds", justify="right")
    told = {
        "cluster": "PostgreSQL is up",
        "simulate": "a shop whose true probabilities are known",
        "install": "tables, functions and roles in schema ubp",
        "load": f"{loaded.read:,} rows read = {loaded.loaded:,} loaded + {loaded.rejected:,} rejected"
        f"{reasons} + {loaded.already:,} already there",
        "features": f"{result.refreshed['feature_count']} features of {result.refreshed['users']:,} users"
        f" as of {result.refreshed['as_of_time']:%Y-%m-%d}",
        "train": f"{trained.training_rows:,} rows, version {trained.version} deployed",
        "score": f"{result.scored['scored']:,} users scored, {result.scored['without_score']:,} without a score",
        "explain": f"main features of the best {len(result.best)}",
    }
    for name, seconds in result.seconds.items():
        steps.add_row(name, told[name], f"{seconds:.1f}")
    out.print(steps)
    for test in trained.tested:
        table = Table(
            title=f"How good it is: {len(test.rows.labels):,} users at {test.cut:%Y-%m-%d}, a purchase in the next"
            f" 30 days ({test.rows.labels.mean():.1%} did), trained only on what was known before",
            title_justify="left",
        )
        table.add_column("metric")
        table.add_column("value", justify="right")
        for key, title in METRICS.items():
            table.add_row(title, f"{test.metrics[key]:.4f}")
        if result.true_auc is not None:
            table.add_row("AUC of the shop's true probabilities (the ceiling)", f"{result.true_auc:.4f}")
        out.print(table)
    best = Table(title=f"The {len(result.best)} users most likely to buy", title_justify="left")
    for column, justify in (
        ("user", "right"),
        ("score", "right"),
        ("main features (value; + raises, - lowers)", "left"),
    ):
        best.add_column(column, justify=justify)  # type: ignore[arg-type]
    for candidate in result.best:
        reasons = ", ".join(f"{'+' if c > 0 else '-'} {name} = {value:.4g}" for name, value, c in candidate.reasons)
        best.add_row(candidate.user_key or str(candidate.user_id), f"{candidate.score:.3f}", reasons)
    out.print(best)
    example = result.best[0].user_id if result.best else 1
    out.print("\nThree queries to try:", style="bold")
    for query in (
        f"select ubp.predict_purchase({example});",
        f"select * from ubp.explain_purchase({example});",  # noqa: S608  (shown, not run)
        "select user_id, score, percentile from ubp.user_scores where task = 'purchase'"
        " order by score desc nulls last limit 5;",
    ):
        out.print(f"  {query}", markup=False)
    command = Path(sys.argv[0])
    program = command if command.name == "ubp-sql" and not command.is_absolute() else Path(".venv/bin/ubp-sql")
    out.print("\nTry them with:", style="bold")
    out.print(f'  psql "{result.dsn}"', markup=False)
    out.print("The cluster stays up. Stop it with:", style="bold")
    out.print(f"  {program} embedded stop --dir {result.directory}", markup=False)
    out.print(f"Done in {sum(result.seconds.values()):.1f} s.")
