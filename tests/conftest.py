"""Shared fixtures: a cluster for the session, an installed template database, a fresh clone of it per test."""

import os

# ONNX Runtime reports to its maker from its import on, unless this says otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

pytest_plugins = ["tests.fix_cluster", "tests.fix_database"]
