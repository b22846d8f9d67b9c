"""docs/benchmarks.md out of bench/results: `python -m bench --report`. Nothing in it is typed by hand."""

import json
from datetime import datetime
from typing import Any

from bench.picture import log_log
from bench.server import ROOT

RESULTS, PAGE = ROOT / "bench" / "results", ROOT / "docs" / "benchmarks.md"
CURVE = PAGE.with_name("benchmarks_incremental.svg")
PACKAGES = ("postgresql", "python", "numba", "duckdb", "polars")
HEAD = """# Benchmarks

Written by `python -m bench --report` from what `make bench CASE=...` measured last; not edited by hand. Answers are
compared before anything is timed. Times are medians of interleaved rounds unless a column says otherwise; the first,
cold run stands apart. A bar that was missed says so.
"""


def write(cases: dict[str, str]) -> list[str]:
    """Writes the page and its picture; returns the cases that have a result. `cases` are names and what they are."""
    parts, found = [HEAD], []
    for name, what in cases.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            found.append(name)
            parts.append(section(name, what, json.loads(path.read_text())))
    PAGE.write_text("\n".join(parts))
    return found


def section(name: str, what: str, result: dict[str, Any]) -> str:
    """One case: what it is, on what it ran, its table, its bars."""
    when = datetime.fromisoformat(result["at"])
    versions = [f"{key} {result[key]}" for key in PACKAGES if key in result]
    lines = [f"## {name}", "", f"{what[0].upper()}{what[1:]}.", "", table(result["rows"]), ""]
    lines += [f"- {'met' if met else '**missed**'}: {bar}" for bar, met in result["bars"].items()]
    lines += [f"- {note}" for note in result.get("notes", [])]
    if "curve" in result:
        CURVE.write_text(picture(result["curve"]))
        lines += ["", f"![Time over the share of users touched]({CURVE.name})"]
    size = f" {result['size']};" if "size" in result else ""
    source = f"{when:%Y-%m-%d}, commit {result['commit']}, {result['cpu']}; {', '.join(versions)}."
    return "\n".join([*lines, "", f"`make bench CASE={name}`:{size} {source}", ""])


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A figure as people read it: four digits where it is small, one where it is not."""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return "" if value is None else str(value)


def picture(curve: list[dict[str, float]]) -> str:
    """Time of a refresh over the share of users touched, beside everybody's."""
    lines = {
        "refresh_features()": [(100 * p["share"], p["seconds"]) for p in curve],
        "a full recompute of the same state": [(100 * p["share"], p["full_seconds"]) for p in curve],
    }
    return log_log("Refresh after new events", "users with new events, %", "seconds", lines)
