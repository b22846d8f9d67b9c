"""docs/tasks.md: what it shows works, and its table of rules has every form."""

import re
from pathlib import Path

from tests.fix_database import Database
from ubp_sql.features.label_rule import FORMS

TEXT = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
TABLE = """
create schema shop;
create table shop.ended (customer_id bigint, ended_at date, recorded_at timestamptz)"""


def test_its_sql(db: Database) -> None:
    blocks = re.findall(r"^```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    with db.connect() as conn:
        conn.execute("select ubp.define_feature_set('default', array['purchase'])")
        conn.execute(TABLE.encode())
        for block in blocks:
            conn.execute(block.encode())
        found = dict(conn.execute("select task, output from ubp.tasks").fetchall())
    chances = dict.fromkeys(("purchase", "churn", "ends"), "chance")
    assert found == chances | dict.fromkeys(("next_purchase", "spend"), "amount")


def test_every_form_is_in_its_table() -> None:
    assert re.findall(r'^\| `\{"(\w+)"', TEXT, re.MULTILINE) == list(FORMS)
