"""Our side of the benches: the mirror, the 25 features, and functions that time what has no SQL function of its own."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

import ubp_sql
from bench import features25
from bench.event_log import F64, I64
from bench.features25 import FEATURES

PACKAGE = Path(ubp_sql.__file__).parent
# The steps of a refresh and of a training set without the writing: chunks in the table to arrays in memory.
_PROBES = """
create or replace function bench.snapshot(as_of_us bigint) returns bigint language plpython3u as $python$
from ubp_sql.api.session import prepare_numba
prepare_numba()
import numpy as np
from ubp_sql.api.events import read_all
from ubp_sql.api.session import touch
from ubp_sql.api.moments import feature_set
from ubp_sql.features.known import known_users
from ubp_sql.features.compute import compute
definition = feature_set(plpy, SD, 'default').definition
users, features = [], []
for events in read_all(plpy, SD, definition.kinds, definition.columns, known_at_us=as_of_us):
    who = np.flatnonzero(known_users(events, as_of_us))
    when = np.full(len(who), as_of_us)
    made = compute(events, definition, who, when, when, between_chunks=lambda: touch(plpy, SD))
    users.append(events.user_id[who])
    features.append(made.features)
GD['users'], GD['features'] = users, features
return sum(map(len, users))
$python$;

create or replace function bench.load_pairs(users bytea, moments bytea) returns void language plpython3u as $python$
import numpy as np
GD['pairs'] = np.frombuffer(users, np.int64), np.frombuffer(moments, np.int64)
$python$;

create or replace function bench.pairs() returns bigint language plpython3u as $python$
from ubp_sql.api.session import prepare_numba
prepare_numba()
import numpy as np
from ubp_sql.api.events import read_all
from ubp_sql.api.session import touch
from ubp_sql.api.moments import feature_set
from ubp_sql.features.compute import compute
definition = feature_set(plpy, SD, 'default').definition
users, moments = GD['pairs']
features = []
for events in read_all(plpy, SD, definition.kinds, definition.columns, low=int(users[0]), high=int(users[-1])):
    ends = np.searchsorted(users, events.user_id[[0, -1]] + [0, 1])
    who, when = users[slice(*ends)], moments[slice(*ends)]
    place = np.searchsorted(events.user_id, who)
    made = compute(events, definition, place, when, when, between_chunks=lambda: touch(plpy, SD))
    features.append(made.features)
GD['features'] = features
return sum(map(len, features))
$python$;

create or replace function bench.warm() returns void language plpython3u as $python$
from ubp_sql.api.session import prepare_numba
prepare_numba()
import numpy as np
from ubp_sql.api.events import read_all
from ubp_sql.api.moments import feature_set
from ubp_sql.features.compute import compute
definition = feature_set(plpy, SD, 'default').definition
for events in read_all(plpy, SD, definition.kinds, definition.columns, low=1, high=3):
    who = np.arange(len(events.user_id))
    compute(events, definition, who, events.t_us[events.first[:-1]], events.t_us[events.first[:-1]])
$python$;

create or replace function bench.users() returns bytea language plpython3u as $python$
import numpy as np
return np.concatenate(GD['users']).tobytes()
$python$;

create or replace function bench.features(which bytea) returns bytea language plpython3u as $python$
import numpy as np
rows = np.concatenate(GD['features'])
return (rows if which is None else rows[np.frombuffer(which, np.int64)]).tobytes()
$python$;
"""


def prepare(conn: psycopg.Connection[Any]) -> None:
    """The mirror, the 25 features as the set `default`, and the probes."""
    features25.define(conn)
    code = hashlib.sha256()
    for path in sorted([*(PACKAGE / "mirror").glob("*.py"), *(PACKAGE / "api").glob("mirror*.py")]):
        code.update(path.read_bytes())
    found = conn.execute("select value from bench.made where what = 'mirror'").fetchone()
    if found is None or found[0] != code.hexdigest():  # the code that built it, and may lay it out otherwise now
        conn.execute("select ubp.rebuild_mirror()")
        conn.execute("vacuum (analyze) ubp.mirror_chunks")
        conn.execute("delete from bench.made where what = 'mirror'")
        conn.execute("insert into bench.made values ('mirror', %s)", [code.hexdigest()])
    conn.execute(_PROBES)


def snapshot_answer(conn: psycopg.Connection[Any]) -> tuple[I64, F64]:
    """Users and features of the last bench.snapshot() of this session."""
    with conn.cursor(binary=True) as cursor:
        users = (cursor.execute("select bench.users()").fetchone() or (b"",))[0]
    return np.frombuffer(users, np.int64), features(conn)


def load_pairs(conn: psycopg.Connection[Any], users: I64, moments_us: I64) -> None:
    """Pairs for bench.pairs(), users not falling."""
    conn.execute("select bench.load_pairs(%b, %b)", [users.tobytes(), moments_us.tobytes()])


def features(conn: psycopg.Connection[Any], which: I64 | None = None) -> F64:
    """(rows, 25) features of the last probe of this session, of these rows only."""
    with conn.cursor(binary=True) as cursor:
        raw = cursor.execute("select bench.features(%b)", [None if which is None else which.tobytes()]).fetchone()
    return np.frombuffer((raw or (b"",))[0], np.float32).reshape(-1, len(FEATURES)).astype(np.float64)


def stored_rows(conn: psycopg.Connection[Any]) -> tuple[I64, F64]:
    """Users ascending and their features as ubp.user_features shows them."""
    sent = " || ".join(f"float4send(coalesce({feature.name}::real, 'NaN'))" for feature in FEATURES)
    query = f"select string_agg(int8send(user_id), '' order by user_id), string_agg({sent}, '' order by user_id)"
    with conn.cursor(binary=True) as cursor:
        users, packed = cursor.execute(f"{query} from ubp.user_features").fetchone() or (b"", b"")
    table = np.frombuffer(packed, ">f4").reshape(-1, len(FEATURES))
    return np.frombuffer(users, ">i8").astype(np.int64), table.astype(np.float64)


def refresh_everybody(conn: psycopg.Connection[Any], as_of: str) -> None:
    """A full recompute at a moment, an SQL expression."""
    conn.execute("update ubp.feature_sets set stale = true")
    conn.execute(f"select * from ubp.refresh_features({as_of})")


def fingerprint(conn: psycopg.Connection[Any]) -> str:
    """Hash of everything that the stored rows say, to the bit: features at the set's moment, anchors, valid_until."""
    digest = hashlib.sha256()
    for query in (
        "select * from ubp.user_features order by user_id",
        "select user_id, anchors, valid_until from ubp.feature_rows order by feature_set_id, user_id",
    ):
        with conn.cursor() as cursor, cursor.copy(f"copy ({query}) to stdout (format binary)") as rows:
            for block in rows:
                digest.update(block)
    return digest.hexdigest()
