"""docs/explain.md: what it shows runs as it stands, and is what the functions give."""

import re
from pathlib import Path

from tests.fix_database import Database

DOC = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()


def test_its_statements_run(shop: Database) -> None:
    statements = [part.strip() for block in re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL)
                  for part in re.sub("--.*", "", block).split(";") if part.strip()]  # fmt: skip
    assert len(statements) >= 6
    user = shop.one("select user_id from ubp.user_scores where score is not null order by score desc limit 1")
    user = user or shop.one("select user_id from ubp.feature_rows order by user_id limit 1")
    with shop.connect() as conn:
        for statement in statements:
            found = conn.execute(re.sub(r"\b42\b", str(user), statement).encode())
            assert [column.name for column in found.description or ()]


def test_its_columns_are_those_of_the_function(db: Database) -> None:
    names = db.one("select proargnames[4:] from pg_proc where oid = 'ubp.explain(text, bigint, integer)'::regprocedure")
    assert f"| {' | '.join(names)} |" in DOC
    for name in names:
        assert f"| {name} | " in DOC.split("## How to read it")[1]
