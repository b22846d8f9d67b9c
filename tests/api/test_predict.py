"""Scores in SQL: equal to LightGBM's to the bit on every path, NULL with a reason, independent of the session."""

import itertools
import math

import lightgbm
import numpy as np
import pytest

from tests.fix_database import Database
from ubp_sql.models.loaded import TreeModel
from ubp_sql.models.walker import Walker

BITS = """
select user_id, substr(ubp.array_image(features), 21) as packed, ubp.predict_purchase(user_id) as score
  from ubp.feature_rows order by user_id"""


def booster(db: Database) -> lightgbm.Booster:
    return lightgbm.Booster(model_str=bytes(db.one("select source from ubp.models where version = 1")).decode())


def test_every_path_gives_lightgbms_bits(shop: Database) -> None:
    rows = shop.rows(BITS)
    scored = [row for row in rows if row["score"] is not None]
    assert len(scored) > 500
    matrix = np.stack([np.frombuffer(bytes(row["packed"]), "<f4") for row in scored])
    expected = booster(shop).predict(matrix)
    assert [row["score"] for row in scored] == list(expected)
    stored = {r["user_id"]: r["score"] for r in shop.rows("select user_id, score from ubp.user_scores")}
    assert stored == {row["user_id"]: row["score"] for row in rows}
    ids = [row["user_id"] for row in rows]
    many = shop.rows("select * from ubp.predict_many('purchase', %s)", ids)
    assert [(r["user_id"], r["score"]) for r in many] == [(r["user_id"], r["score"]) for r in rows]
    # score() takes float8 and rounds to float32 itself
    values = [None if math.isnan(v) else float(v) for v in matrix[0]]
    assert shop.one("select ubp.score('purchase', %s::float8[])", values) == expected[0]
    assert (
        shop.one("select ubp.score_blob((select compiled from ubp.models where version = 1), %s::float8[])", values)
        == expected[0]
    )


def test_stored_row_equals_live_row_at_the_same_moment(shop: Database) -> None:
    differing = shop.one("""
        select count(*) from ubp.feature_rows r, ubp.feature_sets s
         where s.feature_set_id = r.feature_set_id
           and ubp.predict_purchase(r.user_id) is distinct from ubp.predict_purchase(r.user_id, s.as_of)""")
    assert differing == 0


def test_an_array_s_bytes_are_its_values(shop: Database) -> None:
    both = "ubp.array_image(features) as image, ubp.array_bytes(features, -1, true) as bytes"
    for row in shop.rows(f"select features, {both} from ubp.feature_rows"):
        assert np.array(row["features"], np.float32).tobytes() == bytes(row["image"])[20:]
        assert bytes(row["bytes"]) == bytes(row["image"])


ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia")
STYLES = ("ISO, MDY", "SQL, DMY", "German", "Postgres, MDY")


def test_score_does_not_depend_on_the_session(shop: Database) -> None:
    query = """
        select ubp.predict_purchase(user_id, timestamptz '2025-06-01 00:00+00')
          from ubp.feature_rows where user_id = %s"""
    user = shop.one("select user_id from ubp.user_scores order by score desc nulls last limit 1")
    expected = shop.one(query, user)
    assert expected is not None
    with shop.connect() as conn:
        conn.execute("set search_path = pg_temp, nowhere")
        conn.execute("set extra_float_digits = -5")
        conn.execute("set intervalstyle = sql_standard")
        for zone, style in itertools.product(ZONES, STYLES):
            conn.execute("select set_config('timezone', %s, false), set_config('datestyle', %s, false)", [zone, style])
            # binary: the text of a float8 would show extra_float_digits, which is the session's to choose
            assert conn.execute(query, [user], binary=True).fetchone() == (expected,), (zone, style)


def test_no_score_has_a_reason(shop: Database) -> None:
    def detail(user: str) -> dict[str, object]:
        return shop.rows(f"select * from ubp.predict_detail('purchase', {user})")[0]

    looker = shop.one("select user_id from ubp.user_features where count_purchase_all = 0 limit 1")
    assert shop.one("select ubp.predict_purchase(%s)", looker) is None
    assert "too little history" in str(detail(str(looker))["reason"])
    assert shop.one("select ubp.predict_purchase(-5)") is None
    assert "unknown" in str(detail("-5")["reason"])
    assert detail("null::bigint")["score"] is None
    best = detail("(select user_id from ubp.user_scores order by score desc nulls last, user_id limit 1)")
    assert best["reason"] is None
    assert best["version"] == 1
    assert best["percentile"] == pytest.approx(100, abs=1)


def test_key_text_finds_the_same_user(shop: Database) -> None:
    user = shop.one("select user_id from ubp.user_scores order by score desc nulls last limit 1")
    number = shop.one("select ubp.predict_purchase(%s::bigint)", user)
    assert shop.one(f"select ubp.predict_purchase('{user}')") == number
    assert shop.one("select ubp.predict_purchase(%s::text, '2025-06-01 00:00+00')", str(user)) == shop.one(
        "select ubp.predict_purchase(%s::bigint, '2025-06-01 00:00+00')", user
    )
    assert shop.one("select ubp.predict_purchase('nobody')") is None


def test_plain_python_scorer_gives_the_same_bits(shop: Database) -> None:
    compiled = bytes(shop.one("select compiled from ubp.models where version = 1"))
    native = TreeModel(compiled)
    assert native.native is not None, "the native scorer was not built"
    walker = Walker(native.blob)
    for row in shop.rows("select substr(ubp.array_image(features), 21) as packed from ubp.feature_rows limit 300"):
        packed = bytes(row["packed"])
        assert native.score_packed(packed) == walker.score(tuple(np.frombuffer(packed, "<f4").tolist()))
