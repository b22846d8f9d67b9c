#!/usr/bin/env bash
# Stops and removes the cluster in .ubp (wherever its data lie), .venv and the caches. Says what it removes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -e .ubp/cluster.json ]; then
    if ! [ -x .venv/bin/python ]; then
        echo "clean: .ubp is there but .venv, which can stop its server, is not: run make setup first" >&2
        exit 1
    fi
    echo "  the cluster in .ubp"
    .venv/bin/python -c 'import pathlib, ubp_sql.embedded as e; e.Cluster(pathlib.Path(".ubp")).remove()'
fi
for name in .venv .ubp-fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist; do
    if [ -e "$name" ]; then
        echo "  $name"
        rm -rf "$name"
    fi
done
find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
