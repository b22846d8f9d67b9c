"""The first call of a session: what it must not load."""

import pytest

from tests.fix_database import Database

LOADED = """do $$
import sys
names = ("typing", "re", "contextlib", "dataclasses", "numpy")
plpy.notice(" ".join(name for name in names if name in sys.modules))
$$ language plpython3u"""
COMPILED = "select pg_read_file('/proc/self/maps') like '%llvmjit%'"
CALLS = [
    "select * from ubp.features({user}, now())",
    "select * from ubp.features({user})",
    "select ubp.feature_vector({user})",
    "select ubp.predict('purchase', {user})",
    "select ubp.predict('purchase', {user}, now())",
    "select * from ubp.predict_detail('purchase', {user}, now())",
    "select * from ubp.freshness",
    "select * from ubp.predict_many('purchase', array[{user}])",
]


@pytest.mark.parametrize("call", CALLS)
def test_the_server_compiles_no_query(shop: Database, call: str) -> None:
    """Tables that were never analyzed look large; compiling a query for them took longer than all the rest."""
    if not shop.one("select pg_jit_available()"):
        pytest.skip("this server has no just-in-time compiler")
    assert shop.one("select built from ubp.mirror_state")
    user = shop.one("select user_id from ubp.feature_rows limit 1")
    with shop.connect() as conn:
        conn.execute("set jit = on")
        conn.execute(call.format(user=user).encode())
        assert conn.execute(COMPILED).fetchone() == (False,)
        conn.execute("set jit_above_cost = 0; select count(*) from ubp.events")
        assert conn.execute(COMPILED).fetchone() == (True,), "it is seen"


@pytest.mark.parametrize("call", [call for call in CALLS if "freshness" not in call])
def test_modules_that_a_single_user_does_not_need(shop: Database, call: str) -> None:
    """typing and what it imports would take a fifth of the first call of a session."""
    user = shop.one("select user_id from ubp.feature_rows limit 1")
    said: list[str] = []
    with shop.connect() as conn:
        conn.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
        conn.execute(call.format(user=user).encode())
        conn.execute(LOADED)
        conn.execute("do $$ import typing $$ language plpython3u")
        conn.execute(LOADED)
    assert said[0] == ""
    assert said[1].startswith("typing"), "it is seen"


STORED = [
    "select ubp.predict('purchase', {user})",
    "select ubp.predict_detail('purchase', {user})",
    "select ubp.predict_many('purchase', array[{user}])",
    "select ubp.score('purchase', features::float8[]) from ubp.feature_rows limit 1",
    "select * from ubp.warm()",
]


@pytest.mark.parametrize("call", STORED)
def test_a_stored_row_is_scored_without_enum(shop: Database, call: str) -> None:
    """The enumerations of the kernels, and enum itself, would take a tenth of the first call of a session."""
    user = shop.one("select user_id from ubp.feature_rows limit 1")
    said: list[str] = []
    with shop.connect() as conn:
        conn.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
        conn.execute(call.format(user=user).encode())
        conn.execute("do $$ import sys; plpy.notice('enum' in sys.modules) $$ language plpython3u")
    assert said == ["False"]
