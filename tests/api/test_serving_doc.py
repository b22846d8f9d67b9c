"""docs/serving.md: what it shows runs as it stands."""

import re
from pathlib import Path

from psycopg import sql

from tests.fix_database import Database

DOC = Path(__file__).parents[2] / "docs" / "serving.md"


def test_its_commands_run(shop: Database) -> None:
    statements = re.findall(r"```sql\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert len(statements) >= 5
    text = "".join(statements).replace("database shop", f"database {shop.name}")
    with shop.connect() as conn:
        conn.execute("create table public.audience as select user_id from ubp.feature_rows")
        try:
            counts = {}
            for statement in (part.strip() for part in re.sub("--.*", "", text).split(";")):
                if statement:
                    done = conn.execute(statement.encode())
                    counts[statement.split("\n")[0]] = done.rowcount
            assert counts["select * from ubp.warm('purchase')"] == 1
            assert counts["select task, version, form, bytes, used_at from ubp.loaded_models"] == 1
            with shop.connect() as other:
                assert other.execute("show ubp.model_cache").fetchone() == ("256MB",)
        finally:
            conn.execute("drop table public.audience")
            conn.execute(sql.SQL("alter database {} reset ubp.model_cache").format(sql.Identifier(shop.name)))
