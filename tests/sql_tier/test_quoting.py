"""What users wrote, in a file of SQL: it comes back as it was, and nothing of it can be run."""

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.helpers import Connection
from tests.fix_database import Database
from tests.sql_tier.helpers import owner
from ubp_sql.errors import BadInput
from ubp_sql.export import quoting

HOSTILE = [
    "it's", "''", "\\", "\\'; drop table canary; --", "'; drop table canary; --", '"; drop table canary; --',
    "$ubp$; drop table canary; $ubp$", "$ubp", "$ubp1$ $ubp$", "$", "*/ drop table canary; /*", "a\nb",
    "a\r\ndrop table canary",
    "ünïcode ☕", "E'\\''", "%s %I {0}", "\u2028drop table canary", "--",
]  # fmt: skip
TEXTS = st.sampled_from(HOSTILE) | st.text(st.sampled_from("'\"\\$ubp1;-\n\r {}%é"), max_size=12) | st.text(max_size=20)
FAST = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def conn(shared_tier: Database) -> Iterator[Connection]:
    with owner(shared_tier) as made:
        made.execute("create schema s")
        made.execute("set search_path = s")
        made.execute("create table canary ()")
        yield made
        made.execute("select from canary")


def possible(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


@FAST
@given(TEXTS)
def test_a_literal(conn: Connection, text: str) -> None:
    if not possible(text):
        with pytest.raises(BadInput):
            quoting.literal(text)
        return
    for setting in ("on", "off"):
        conn.execute(f"set standard_conforming_strings = {setting}")
        assert conn.execute(f"select {quoting.literal(text)}".encode()).fetchone() == (text,)
    conn.execute("reset standard_conforming_strings")


@FAST
@given(TEXTS)
def test_an_identifier(conn: Connection, text: str) -> None:
    if not possible(text) or not 0 < len(text.encode()) <= quoting.MAX_IDENTIFIER_BYTES:
        with pytest.raises(BadInput):
            quoting.identifier(text)
        return
    cursor = conn.execute(f"select 1 as {quoting.identifier(text)}".encode())
    assert cursor.description is not None
    assert [column.name for column in cursor.description] == [text]


@FAST
@given(TEXTS, TEXTS)
def test_a_body(conn: Connection, text: str, end: str) -> None:
    """Only the spaces at its end go, and the ends of lines come that it stands between."""
    if not possible(text + end):
        return
    source = f"/* {text} */ -- {end}"
    stored = conn.execute(f"select {quoting.body(source)}".encode()).fetchone()
    assert stored == (f"\n{source.rstrip()}\n",)


@FAST
@given(TEXTS)
def test_a_remark(conn: Connection, text: str) -> None:
    """A line of its own, whatever the text."""
    if possible(text):
        assert conn.execute(f"select {quoting.remark(text)}\n 7".encode()).fetchone() == (7,)


@FAST
@given(st.floats(width=64), st.floats(width=32))
def test_numbers(conn: Connection, double: float, single: float) -> None:
    found = conn.execute(f"select {quoting.float8(double)}, {quoting.single(single)}::real".encode(), binary=True)
    assert list(map(repr, found.fetchone() or ())) == [repr(double), repr(single)]


def test_what_no_database_holds(conn: Connection) -> None:
    for make in (quoting.literal, quoting.identifier, quoting.body):
        for text in ("a\0b", "\ud800"):
            with pytest.raises(BadInput):
                make(text)
    with pytest.raises(psycopg.Error):
        conn.execute("select 'a''")  # the tests' own check: a literal that does not end is an error
