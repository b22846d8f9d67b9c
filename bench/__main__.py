"""`python -m bench [--case NAME]`: runs cases, prints tables, keeps JSON with commit, CPU and versions."""

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.cases import CASES
from bench.server import ROOT


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    packages = {name: version(name) for name in ("numpy", "numba", "lightgbm", "polars", "psycopg")}
    return {"commit": commit.stdout.strip(), "cpu": model, "python": platform.python_version(), **packages}


def show(name: str, result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{name}: {CASES[name][0]}", title_justify="left")
    rows = result["rows"]
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(
                f"{v:.4f}" if isinstance(v, float) and v < 10 else f"{v:,.1f}" if isinstance(v, float) else str(v)
                for v in row.values()
            )
        )
    console.print(table)
    for line, met in result["bars"].items():
        console.print(f"{'met   ' if met else 'MISSED'} {line}", markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--case", choices=sorted(CASES), help="run only this one")
    chosen = parser.parse_args().case
    console = Console(width=None if sys.stdout.isatty() else 240)
    if chosen is None:
        for name, (what, _) in CASES.items():
            console.print(f"make bench CASE={name:<10} {what}", markup=False)
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
