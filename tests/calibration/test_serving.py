"""Deployments with a calibration map: every way to ask says the same, and `score` says what the model says."""

import struct
from typing import Any

import psycopg
import pytest

from tests.api.helpers import Connection, refused
from tests.serving_shop import AS_OF, USERS, said, scan
from ubp_sql.models.calibration import Map

X, Y = [0.2, 0.45, 0.5, 0.8], [0.1, 0.15, 0.6, 0.7]
ISOTONIC, PLATT = Map("isotonic", X, Y), Map("platt", [0.7, -0.4], [])
OWN = """
select r.user_id, ubp.score('purchase', r.features::float8[], %s)
  from ubp.feature_rows r join ubp.feature_sets s using (feature_set_id)
 where s.name = 'default' and r.anchors is null"""
STORED = "select user_id, score, percentile from ubp.user_scores"


def own(conn: Connection, version: int = 1) -> dict[int, float | None]:
    """What the model itself says of users, from the rows that ubp.predict_at computes: of those who do not age."""
    return dict(conn.execute("select user_id, score from pg_temp.own where version = %s", [version]).fetchall())


def remember(conn: Connection) -> None:
    """Scores of each version without a map."""
    conn.execute("create temp table own (version int, user_id bigint, score float8)")
    for version in (1, 2, 3):
        conn.execute("select ubp.deploy_model('purchase', %s)", [version])
        conn.execute("insert into own select %s, * from unnest(%s::bigint[], %s::float8[])",
                     [version, *map(list, zip(*said(conn).items(), strict=True))])  # fmt: skip
    conn.execute("select ubp.deploy_model('purchase', 1)")


def add(conn: Connection, found: Map, version: int = 1) -> int:
    row = conn.execute(
        "select ubp.add_calibration_map('purchase', %s, %s, %s::float8[], %s::float8[])",
        [version, found.method, list(found.x), list(found.y)],
    ).fetchone()
    assert row is not None
    return int(row[0])


def through(found: Map | None, scores: dict[int, float | None]) -> dict[int, float | None]:
    return {u: s if s is None or found is None else found.value(s) for u, s in scores.items()}


def one(conn: Connection, query: str, *arguments: object) -> Any:
    row = conn.execute(query.encode(), arguments or None).fetchone()
    return None if row is None else row[0]


@pytest.mark.parametrize("found", [ISOTONIC, PLATT], ids=["isotonic", "platt"])
def test_every_way_says_the_same(serving: Connection, found: Map) -> None:
    remember(serving)
    expected = through(found, own(serving))
    assert len({*expected.values()}) > 50
    serving.execute("select ubp.use_calibration('purchase', %s)", [add(serving, found)])
    assert said(serving) == expected
    assert scan(serving) == expected
    ordered = [u for u in expected if expected[u] is not None][:12]
    for user in ordered:  # of a session that asks call by call, alone and looked up
        assert one(serving, "select ubp.predict('purchase', %s::bigint)", user) == expected[user]
        assert one(serving, "select ubp.predict('purchase', %s::text)", str(user)) == expected[user]
        assert one(serving, "select score from ubp.predict_detail('purchase', %s::bigint)", user) == expected[user]
        assert one(serving, "select ubp.predict('purchase', %s::bigint, %s)", user, AS_OF) == expected[user]
        assert one(serving, "select ubp.predict_purchase(%s)", user) == expected[user]
    serving.execute("select * from ubp.score_users('purchase')")
    stored = {row[0]: row for row in serving.execute(STORED).fetchall()}
    assert {u: row[1] for u, row in stored.items()} == {u: v for u, v in expected.items() if u in stored}
    assert len(stored) == USERS - USERS // 10
    scores = own(serving)
    raw = {u: float(scores[u] or 0) for u in stored}
    for user in ordered:
        below = sum(score < raw[user] for score in raw.values())
        assert stored[user][2] == pytest.approx(100 * below / len(raw))
        detail = serving.execute("select percentile from ubp.predict_detail('purchase', %s::bigint)", [user]).fetchone()
        assert detail == (stored[user][2],)


@pytest.mark.parametrize("found", [ISOTONIC, PLATT], ids=["isotonic", "platt"])
def test_scans_in_blocks_and_of_everybody(serving: Connection, found: Map) -> None:
    remember(serving)
    expected = through(found, own(serving))
    serving.execute("select ubp.use_calibration('purchase', %s)", [add(serving, found)])
    for change in ("a.BATCH = 1", "a.BATCH, a.EVERYBODY_FROM = 1, 9", "a.FIRST = 10**9"):
        serving.execute(f"do $$ import ubp_sql.api.ahead as a; {change} $$ language plpython3u".encode())
        assert scan(serving) == expected, change
        mixed = "select u, ubp.predict('purchase', u) from generate_series(-5::bigint, 310) u order by hashint8(u)"
        assert dict(serving.execute(mixed).fetchall()) == expected, change
    add(serving, PLATT, 2)
    serving.execute("select ubp.challenge_model('purchase', 2, 0.5)")
    serving.execute("do $$ import ubp_sql.api.ahead as a; a.BATCH = a.FIRST = 1 $$ language plpython3u")
    shared = scan(serving)
    assert shared == said(serving) != expected


def test_score_is_the_models_own(serving: Connection) -> None:
    before = dict(serving.execute(OWN, [None]).fetchall())
    blob = "select ubp.score_blob((select compiled from ubp.models where version = 1), %s::float8[])"
    row = one(serving, "select features from ubp.feature_rows limit 1")
    was = one(serving, blob, row)
    serving.execute("select ubp.use_calibration('purchase', %s)", [add(serving, ISOTONIC)])
    assert dict(serving.execute(OWN, [None]).fetchall()) == before
    assert one(serving, blob, row) == was
    assert one(serving, "select ubp.score_all('purchase', %s::float8[])", row) == [was]


def test_challengers_and_shadows_have_their_own(serving: Connection) -> None:
    remember(serving)
    add(serving, PLATT, 2)
    add(serving, ISOTONIC, 3)
    serving.execute("select ubp.challenge_model('purchase', 2, 0.5)")
    serving.execute("select ubp.shadow_model('purchase', 3)")
    champion, challenger = through(None, own(serving)), through(PLATT, own(serving, 2))
    found = scan(serving)
    assert found == said(serving)
    assert {found[u] == challenger[u] for u in found} == {True, False}
    assert all(found[u] in (champion[u], challenger[u]) for u in found)
    later = add(serving, ISOTONIC, 2)
    assert one(serving, "select ubp.use_calibration('purchase', %s)", later) == 2
    other = through(ISOTONIC, own(serving, 2))
    assert scan(serving) == {u: other[u] if found[u] == challenger[u] != champion[u] else found[u] for u in found}
    serving.execute("select * from ubp.score_users('purchase')")
    shadows = dict(serving.execute("select user_id, score from ubp.shadow_scores").fetchall())
    beside = through(ISOTONIC, own(serving, 3))
    assert shadows == {u: beside[u] for u in shadows}
    assert shadows


def test_the_newest_map_is_deployed_and_rolled_back(serving: Connection) -> None:
    remember(serving)
    plain = own(serving)
    serving.execute("select ubp.deploy_model('purchase', 3)")
    first, second = add(serving, PLATT), add(serving, ISOTONIC)
    serving.execute("select ubp.deploy_model('purchase', 1)")
    assert said(serving) == through(ISOTONIC, plain)
    assert one(serving, "select ubp.use_calibration('purchase', %s)", first) == 1
    assert said(serving) == through(PLATT, plain)
    assert one(serving, "select ubp.use_calibration('purchase', null)") == 1
    assert said(serving) == plain
    assert one(serving, "select ubp.rollback_model('purchase')") == 1
    assert said(serving) == through(PLATT, plain)
    assert one(serving, "select ubp.rollback_model('purchase')") == 1
    assert said(serving) == through(ISOTONIC, plain)
    assert one(serving, "select ubp.rollback_model('purchase')") == 3
    assert said(serving) == own(serving, 3)
    maps = "select map_id from ubp.deployments order by deployment_id desc limit 6"
    assert serving.execute(maps).fetchall() == [(None,), (second,), (first,), (None,), (first,), (second,)]


def test_a_map_of_another_model_is_refused(serving: Connection) -> None:
    other = add(serving, PLATT, 2)
    before = serving.execute("select deployment_id, map_id from ubp.deployments order by 1").fetchall()
    error = refused(serving, "UB003", "select ubp.use_calibration('purchase', %s)", other)
    assert "version 2" in str(error.diag.message_primary)
    refused(serving, "UB003", "select ubp.use_calibration('purchase', 99)")
    refused(serving, "UB001", "select ubp.use_calibration('nothing', 1)")
    assert serving.execute("select deployment_id, map_id from ubp.deployments order by 1").fetchall() == before
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        serving.execute("update ubp.deployments set map_id = %s where version = 1", [other])
    serving.execute("select ubp.define_task('extra', 'purchase')")
    refused(serving, "UB004", "select ubp.use_calibration('extra', null)")


@pytest.mark.parametrize(
    ("sqlstate", "arguments"),
    [
        ("UB003", "'purchase', 1, 'isotonic', array[0.5, 0.4], array[0.1, 0.2]"),
        ("UB003", "'purchase', 1, 'isotonic', array[0.4, 0.5], array[0.2, 0.1]"),
        ("UB003", "'purchase', 1, 'isotonic', array[0.4, 0.5], array['NaN', 0.1]::float8[]"),
        ("UB003", "'purchase', 1, 'isotonic', array[0.4, null], array[0.2, 0.3]"),
        ("UB003", "'purchase', 1, 'isotonic', array[[0.4, 0.5]], array[0.2, 0.3]"),
        ("UB003", "'purchase', 1, 'platt', array[1, 0]::float8[], array[0.2]"),
        ("UB003", "'purchase', 1, 'platt', null"),
        ("UB003", "'purchase', 1, null, array[0.5], array[0.5]"),
        ("UB003", "'purchase', null, 'platt', array[1, 0]::float8[]"),
        ("UB004", "'purchase', 9, 'platt', array[1, 0]::float8[]"),
        ("UB001", "'nothing', 1, 'platt', array[1, 0]::float8[]"),
    ],
)
def test_what_is_no_map(refusing: Connection, sqlstate: str, arguments: str) -> None:
    refused(refusing, sqlstate, f"select ubp.add_calibration_map({arguments})")


IDS, HALF, YES = struct.pack("<2q", 1, 2), struct.pack("<2d", 0.5, 0.25), struct.pack("<2d", 1, 0)
CUT = AS_OF.isoformat()


@pytest.mark.parametrize(
    ("sqlstate", "arguments"),
    [
        ("UB003", ("purchase", 1, CUT, "test", IDS, HALF, YES[:8])),
        ("UB003", ("purchase", 1, CUT, "test", IDS[:9], HALF[:9], YES[:9])),
        ("UB003", ("purchase", 1, CUT, "test", b"", b"", b"")),
        ("UB003", ("purchase", 1, CUT, "test", None, HALF, YES)),
        ("UB003", ("purchase", 1, CUT, "test", IDS, struct.pack("<2d", 0.5, float("nan")), YES)),
        ("UB003", ("purchase", 1, CUT, "test", IDS, HALF, struct.pack("<2d", 0.5, 1))),
        ("UB003", ("purchase", 1, CUT, "test", IDS[:8] * 2, HALF, YES)),
        ("UB003", ("purchase", 1, CUT, "train", IDS, HALF, YES)),
        ("UB003", ("purchase", 1, None, "test", IDS, HALF, YES)),
        ("UB003", ("purchase", 1, "infinity", "test", IDS, HALF, YES)),
        ("UB003", ("purchase", None, CUT, "test", IDS, HALF, YES)),
        ("UB004", ("purchase", 9, CUT, "test", IDS, HALF, YES)),
        ("UB001", ("nothing", 1, CUT, "test", IDS, HALF, YES)),
    ],
)
def test_what_is_no_test(refusing: Connection, sqlstate: str, arguments: tuple[object, ...]) -> None:
    refused(refusing, sqlstate, "select ubp.record_test(%s, %s, %s, %s, %s, %s, %s, 'by hand')", *arguments)
