"""`ubp-sql report` as a whole process, of Online Retail's purchases: seconds and bytes of a page of 4,000 users."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import settings
from bench.rounds import rounds
from bench.server import ROOT, cluster, fresh, load_online_retail
from ubp_sql.install.state import one

ROUNDS = 5
USERS, SECONDS, BYTES = 4_000, 10.0, 3_000_000
AS_OF = "2011-12-10"
AUC = "select value from ubp.model_metrics where metric = 'auc'"
TESTED = "select n from ubp.model_tests where part = 'test'"


def run() -> dict[str, Any]:
    """The page's figures are compared with the trainer's, and two pages with each other, before anything is timed."""
    server, name = cluster(), "bench_report"
    conn = fresh(server, name)
    load_online_retail(conn)
    conn.execute("select * from ubp.refresh_features(%s)", [AS_OF])
    _command("train", "purchase", "--test-cut", "2011-11-09", "--dsn", server.dsn(name))
    _command("score", "purchase", "--dsn", server.dsn(name))
    with TemporaryDirectory() as folder:
        page, images = Path(folder) / "report.html", Path(folder) / "figures"
        report = partial(_timed, "report", "purchase", "-o", str(page), "--dsn", server.dsn(name))
        report()
        first = page.read_bytes()
        report()
        if page.read_bytes() != first:
            raise SystemExit("two reports of the same database differ")
        if f">{one(conn, AUC):.3f}</span>" not in first.decode():
            raise SystemExit("the AUC on the page is not the trainer's")
        methods = {"report": report, "report --png": partial(report, "--png", str(images))}
        timings = rounds(methods, settings.count(ROUNDS))
        pictures = sum(path.stat().st_size for path in images.iterdir())
    users, size = one(conn, TESTED), len(first)
    conn.close()
    sizes = {"report": {"kB": size / 1e3}, "report --png": {"kB": (size + pictures) / 1e3}}
    rows = [{"method": method, **timing.row(), **sizes[method]} for method, timing in timings.items()]
    slowest = max(timing.median for timing in timings.values())
    bars = {
        f"{users:,} users >= {USERS:,}, median {slowest:.1f} s < {SECONDS:.0f} s": users >= USERS and slowest < SECONDS,
        f"page of {size / 1e6:.2f} MB < {BYTES / 1e6:.0f} MB": size < BYTES,
    }
    return {"rows": rows, "bars": bars, "size": f"{users:,} users tested"}


def _command(*arguments: str) -> None:
    argv = [sys.executable, "-c", "from ubp_sql.cli.main import run; run()", *arguments]
    subprocess.run(argv, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def _timed(*arguments: str) -> float:
    started = time.perf_counter()
    _command(*arguments)
    return time.perf_counter() - started
