"""docs/what-if.md: what it shows runs as it stands, and no aggregate is missing."""

import re
from pathlib import Path

from tests.fix_database import Database
from ubp_sql.features.aggregates import RULES

IF = "select ubp.predict_if('purchase', %s::bigint, %s)"
DOC = (Path(__file__).parents[2] / "docs" / "what-if.md").read_text()


def test_its_queries_run(shop: Database) -> None:
    """Of a user who has something of everything."""
    statements = "".join(re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL))
    user = shop.one(
        "select user_id from ubp.user_features where count_view_30d > 0 and count_purchase_180d > 2 limit 1"
    )
    event = re.search(r'^`(\{"kind".*\})`$', DOC, re.MULTILINE)
    assert event
    with shop.connect() as conn:
        queries = re.sub("--.*", "", statements).replace("42", str(user)).split(";")[:-1]
        answers = [conn.execute(query.encode()).fetchall() for query in queries]
        answers.append(conn.execute(IF, [user, f'{{"events": [{event[1]}]}}']).fetchall())
    assert len(answers) >= 7
    assert all(rows and rows[0][0] is not None for rows in answers)


def test_every_aggregate_is_in_the_table() -> None:
    table = DOC[DOC.index("| aggregate |") :].splitlines()[2:]
    named = [name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(named) == sorted(RULES)
