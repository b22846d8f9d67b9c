"""Functions whose arguments changed: an upgrade leaves no old one beside the new, which would make calls ambiguous."""

import re

import pytest

from tests.fix_database import Database
from tests.install import catalogue
from ubp_sql.errors import InstallError
from ubp_sql.install import commands

OLD = """
create function ubp.features(user_id bigint, as_of timestamptz)
returns table (feature text, value double precision, unit text, meaning text)
language sql stable begin atomic select 'f', 1.0::double precision, 'u', 'm'; end;
create function ubp.features(user_key text, as_of timestamptz)
returns table (feature text, value double precision, unit text, meaning text)
language sql stable begin atomic
  select f.feature, f.value, f.unit, f.meaning from ubp.features(user_key::bigint, as_of) f; end;
alter function ubp.features(bigint, timestamptz) owner to ubp_owner;
alter function ubp.features(text, timestamptz) owner to ubp_owner;
"""


@pytest.fixture
def older(db: Database) -> Database:
    """At the revision before, with the functions as they were then."""
    with db.connect() as conn:
        commands.downgrade(conn, "0007", run=True)
        conn.execute(OLD.encode())
    return db


def test_an_upgrade_equals_a_fresh_installation(older: Database, installed: str) -> None:
    with older.connect() as conn:
        commands.apply(conn)
    fresh = older.cluster.dsn(installed)
    assert _unnumbered(catalogue.objects(older.dsn)) == _unnumbered(catalogue.objects(fresh))
    assert catalogue.grants(older.dsn) == catalogue.grants(fresh)


def _unnumbered(objects: str) -> str:
    """Without columns' numbers: one that a downgrade dropped gets another when it comes back."""
    return re.sub(r"(?m)^(column \S+)\.\d+ ", r"\1 ", objects)


def test_who_uses_the_old_form_is_named(older: Database) -> None:
    older.execute("create view public.theirs as select * from ubp.features(1, now())")
    with older.connect() as conn:
        with pytest.raises(InstallError, match="other objects depend on it") as caught:
            commands.apply(conn)
        assert "view public.theirs depends on" in str(caught.value.hint)
        assert commands.status(conn)["revision"] == "0007"
