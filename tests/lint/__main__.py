"""Runs every rule on this checkout; one line a breach, exit status 1 if there is one."""

import sys
from pathlib import Path

from tests.lint import functions, imports, machine_paths, spots, sql_arguments

RULES = {
    "SQL is constant": sql_arguments.breaches,
    "imports point one way": imports.breaches,
    "functions": functions.breaches,
    "pgspot": spots.breaches,
    "machine paths": machine_paths.breaches,
}


def main() -> int:
    root = Path(__file__).parents[2]
    found = [f"{line}   [{name}]" for name, rule in RULES.items() for line in rule(root)]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    sys.stdout.write(f"{len(RULES)} rules, {len(found)} breaches\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
