"""How large a case is: defaults that finish in minutes, and what the environment says instead.

EVENTS  millions of events (a fraction is fine): make bench CASE=scale EVENTS=50
USERS   users
SEED    of the log
ROUNDS  timed rounds after the first, cold one
FRESH   1: make the databases anew, though seed and size agree (after a change of how features are defined)
"""

import os

from bench.stored import Size


def size(events: int, usual: int) -> Size:
    """The log's size: what the case would take, or the environment's; users follow the events."""
    wanted = round(1e6 * float(os.environ.get("EVENTS") or events / 1e6))
    scaled = max(1, round(usual * wanted / events))
    return Size(wanted, users(scaled), seed())


def users(default: int) -> int:
    return int(os.environ.get("USERS") or default)


def seed() -> int:
    return int(os.environ.get("SEED") or 1)


def count(default: int) -> int:
    """Rounds."""
    return int(os.environ.get("ROUNDS") or default)
