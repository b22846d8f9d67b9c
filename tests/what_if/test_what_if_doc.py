"""docs/what-if.md: what it shows runs as it stands, and no aggregate is missing."""

import re
from pathlib import Path

from tests.fix_database import Database
from ubp_sql.features.aggregates import RULES

DOC = (Path(__file__).parents[2] / "docs" / "what-if.md").read_text()


def test_its_queries_run(shop: Database) -> None:
    statements = "".join(re.findall(r"```sql\n(.*?)```", DOC, re.DOTALL))
    with shop.connect() as conn:
        answers = [conn.execute(part.encode()).fetchall() for part in re.sub("--.*", "", statements).split(";")[:-1]]
        event = re.search(r'^`(\{"kind".*\})`$', DOC, re.MULTILINE)
        assert event
        changes = f'{{"events": [{event[1]}]}}'
        assert conn.execute("select score from ubp.predict_if_detail('purchase', 42, %s)", [changes]).fetchall()
    assert len(answers) >= 6
    assert all(answers)


def test_every_aggregate_is_in_the_table() -> None:
    table = DOC[DOC.index("| aggregate |") :].splitlines()[2:]
    named = [name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(named) == sorted(RULES)
