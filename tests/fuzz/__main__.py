"""`python -m tests.fuzz [--mutants N] [--seed S] [--only TARGET]`, `--replay FILE` for a mutant that was kept."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz import runner
from tests.fuzz.judge import judge
from tests.fuzz.mutants import Mutant
from tests.fuzz.oracle import Oracle
from tests.fuzz.targets import READERS
from ubp_sql.errors import UbpError

KEEP = Path(".ubp-fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="feeds mutants to everything that reads")
    parser.add_argument("--mutants", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=int(f"{datetime.now(UTC):%Y%m%d}"), help="the day, if not given")
    parser.add_argument("--only", action="append", default=[], choices=sorted(READERS))
    parser.add_argument(
        "--oracle", type=float, default=0.02, help="share of mutants that the libraries are asked about"
    )
    parser.add_argument("--keep", type=Path, default=KEEP, help="folder for mutants that something is wrong with")
    parser.add_argument("--replay", type=Path, help="a kept mutant: what is said of it now")
    asked = parser.parse_args()
    if asked.replay is not None:
        return replay(asked.replay)
    report = runner.run(
        *(asked.mutants, asked.seed),
        only=asked.only,
        keep=asked.keep,
        oracle=asked.oracle,
        first=asked.first,
        say=lambda line: print(line, flush=True),
    )
    for line in report.findings:
        print(f"\n{line}")
    return 1 if report.findings else 0


def replay(path: Path) -> int:
    target, _, rest = path.name.partition(".")
    data = path.read_bytes()
    try:
        READERS[target].read(data)
    except UbpError as error:
        print(f"refused: {error.message}\nhint: {error.hint}")
    print(judge(Mutant(target, data), int(rest.rpartition(".")[2]), Oracle()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
