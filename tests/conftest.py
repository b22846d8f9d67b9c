"""Shared fixtures: a cluster for the session, an installed template database, a fresh clone of it per test."""

pytest_plugins = ["tests.fix_cluster", "tests.fix_database"]
