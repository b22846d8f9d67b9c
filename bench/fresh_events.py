"""Events that come in after the log: of given users, before the log's end, known at their own time."""

from typing import Any

import numpy as np
import psycopg

from bench.event_log import DAY_US, END_US, I64, KINDS
from bench.stored import Size

_INSERT = """
insert into ubp.events (user_id, event_time, kind, item_id, value, ingested_at)
select u, to_timestamp(t / 1e6), k, i, v, to_timestamp(t / 1e6)
  from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::double precision[]) as x (u, t, k, i, v)"""


def insert(conn: psycopg.Connection[Any], users: I64, seed: int) -> None:
    """One event for each entry of `users`, of the last day, by one statement."""
    draw = np.random.default_rng([7, seed])
    n = len(users)
    times = END_US - draw.integers(1, DAY_US, n)
    kinds = [KINDS[kind] for kind in draw.integers(0, 2, n).tolist()]
    paid = np.round(90 * draw.random(n), 2).tolist()
    values = [None if kind == "view" else value for kind, value in zip(kinds, paid, strict=True)]
    items = draw.integers(1, 2_000, n)
    conn.execute(_INSERT, [users.tolist(), times.tolist(), kinds, items.tolist(), values])


def drawn_users(size: Size, n: int, seed: int) -> I64:
    """n users as events would name them: some more than once."""
    users: I64 = np.random.default_rng([8, seed]).integers(1, size.users + 1, n)
    return users


def different_users(size: Size, n: int, seed: int) -> I64:
    """n users, each once."""
    users: I64 = np.random.default_rng([9, seed]).choice(size.users, n, replace=False) + 1
    return users
