"""Predict user behaviour inside PostgreSQL: windowed features and model scores next to the events."""

__version__ = "0.1.0"
