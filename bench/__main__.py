"""`python -m bench [--case NAME]`: runs cases, prints tables, keeps JSON with commit, CPU and versions."""

import argparse
import json
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import report
from bench.cases import CASES
from bench.server import ROOT
from ubp_sql.embedded.binaries import find_binaries
from ubp_sql.errors import ClusterError


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    packages = {}
    for name in ("numpy", "numba", "lightgbm", "duckdb", "polars", "psycopg", "cupy-cuda12x", "numba-cuda"):
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    server = {"python": platform.python_version()}
    with suppress(ClusterError):  # a machine with a card may have no PostgreSQL
        server["postgresql"] = find_binaries().version
    return {"commit": commit.stdout.strip(), "cpu": model, **server, **packages}


def show(name: str, result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{name}: {CASES[name][0]}", title_justify="left")
    rows = result["rows"]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(report.cell(row.get(column)) for column in columns))
    console.print(table)
    for line in result.get("notes", []):
        console.print(f"       {line}", markup=False)
    for line, met in result["bars"].items():
        console.print(f"{'met   ' if met else 'MISSED'} {line}", markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--case", choices=sorted(CASES), help="run only this one")
    parser.add_argument("--report", action="store_true", help="write docs/benchmarks.md from the last results")
    arguments = parser.parse_args()
    chosen = arguments.case
    console = Console(width=None if sys.stdout.isatty() else 240)
    if arguments.report:
        console.print("written from: " + ", ".join(report.write({name: what for name, (what, _) in CASES.items()})))
        return 0
    if chosen is None:
        for name, (what, _) in CASES.items():
            console.print(f"make bench CASE={name:<13} {what}", markup=False)
        return 0
    result = CASES[chosen][1]()
    show(chosen, result, console)
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    record = {"case": chosen, "at": datetime.now(UTC).isoformat(), **machine(), **result}
    (folder / f"{chosen}.json").write_text(json.dumps(record, indent=2, default=str) + "\n")
    return 0 if all(result["bars"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
