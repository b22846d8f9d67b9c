"""docs/decisions.md: what it shows runs as it stands."""

import re
from pathlib import Path

from tests.fix_database import Database

DOC = Path(__file__).parents[2] / "docs" / "decisions.md"


def test_its_commands_run(shop: Database) -> None:
    text = "".join(re.findall(r"```sql\n(.*?)```", DOC.read_text(), re.DOTALL))
    statements = [part.strip() for part in re.sub("--.*", "", text).split(";") if part.strip()]
    assert len(statements) == 13
    rows = {}
    with shop.connect() as conn:
        for statement in statements:
            rows[statement.split("(")[0]] = conn.execute(statement.encode()).rowcount
    assert rows["select * from ubp.decide"] == 1
    assert rows["select * from ubp.profit_curve"] == 100
