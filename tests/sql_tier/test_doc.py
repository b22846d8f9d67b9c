"""docs/sql-tier.md: what it shows runs as it stands, and the rights that it names are enough."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.fix_database import Database
from tests.sql_tier.helpers import owner
from tests.sql_tier.test_file import with_tasks
from ubp_sql.cli.sql_tier import sql_of

DOC = (Path(__file__).parents[2] / "docs" / "sql-tier.md").read_text()
BLOCKS = re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL)
GRANTS, FEWER = re.findall(r"`(grant .*?;)`", DOC)


def test_its_commands_run(db: Database, tier: Database) -> None:
    with db.connect() as conn, owner(tier) as other:
        with_tasks(conn, "purchase", kinds=("purchase",))
        file = sql_of(conn, "purchase", None).encode()
        other.execute(file)
        found = [other.execute(part.encode()) for part in BLOCKS[0].split(";") if part.strip()]
        scores = found[4].fetchone()
        assert scores is not None
        assert None not in scores
        assert found[5].rowcount == 1
        assert found[6].rowcount == 5
        other.execute("drop schema ubp cascade")
        other.execute(
            "create table public.orders (id bigint, customer_id bigint, ordered_at timestamptz, total numeric)"
        )
        other.execute(
            "insert into public.orders select n, n % 3, now() - n * interval '1 day', n from generate_series(1, 9) n"
        )
        other.execute(BLOCKS[1].encode())
        other.execute(file)
        assert other.execute("select users from ubp.refresh_features()").fetchone() == (3,)
        with psycopg.connect(db.cluster.dsn("postgres"), autocommit=True) as admin:
            admin.execute("do $$ begin create role analyst; exception when duplicate_object then null; end $$")
            admin.execute("grant analyst to tier_owner")
        other.execute("set role analyst")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("select ubp.predict_purchase(1)")
        other.execute("reset role")
        other.execute(GRANTS.encode())
        other.execute("set role analyst")
        assert other.execute("select ubp.predict_purchase(1)").fetchone() != (None,)
        assert other.execute("select ubp.predict_purchase('1', now())").fetchone() != (None,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("select * from ubp.score_users('purchase')")
        other.execute("reset role")
        other.execute("revoke all on all tables in schema ubp from analyst")
        other.execute(FEWER.encode())
        other.execute("set role analyst")
        assert other.execute("select ubp.predict_purchase('1'), (select count(*) from ubp.features(1))").fetchone() != (
            None,
            0,
        )
        assert other.execute("select score from ubp.predict_detail('purchase', 1)").fetchone() != (None,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("select ubp.predict_purchase('1', now())")
        other.execute("reset role")
