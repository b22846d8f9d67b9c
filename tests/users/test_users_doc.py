"""docs/users.md: what it shows runs as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.running import told
from tests.fix_database import Database

DOC = Path(__file__).parents[2] / "docs" / "users.md"
BLOCKS = re.compile(r"```(sql|sh)\n(.*?)```", re.DOTALL)
# Tables of the reader's own.
THEIRS = """
insert into ubp.items (item_key) values ('85123A');
create table public.crm_pairs as
select * from (values ('ann@home', 'ann@work'), ('17850', 'bob')) p (web_key, shop_key);
create table public.customers as
select u as customer, 20 + u as age, case when u % 2 = 0 then 'FR' end as country, 1000.0 * u as income
  from generate_series(1, 9) u"""
# By the beginning of a statement: its last row, or how many rows it has.
EXPECTED: dict[str, object] = {
    "select ubp.resolve_user('17850'), ubp": (17850, None),
    "select ubp.resolve_user('ann@work') =": (True,),
    "select ubp.predict_purchase('ann@work') is": (True,),
    "select ubp.set_user_attributes(": (22,),
    "select ubp.set_item_attributes(": (4,),
    "select * from ubp.user_profile('17850')": 2,
    "select * from ubp.user_profile('17850', '2026-01-15": 0,
    "select * from ubp.item_profile('85123A')": 3,
    "select * from ubp.attributes": 2,
}


def statements(block: str) -> list[str]:
    """The commands of a block, without comments; a block with a body between $$ is one."""
    plain = re.sub(r"--.*", "", block)
    return [plain] if "$$" in plain else [part.strip() for part in plain.split(";") if part.strip()]


def test_its_commands_run(keyed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    keyed.execute(THEIRS)
    blocks = BLOCKS.findall(DOC.read_text())
    assert {kind for kind, _ in blocks} == {"sql", "sh"}
    with keyed.connect() as conn:
        for kind, block in blocks:
            if kind == "sh":
                for line in block.strip().splitlines():
                    assert told(*shlex.split(line)[1:], "--dsn", keyed.dsn)
                continue
            for statement in statements(block):
                cursor = conn.execute(statement.encode())
                for start, expected in EXPECTED.items():
                    if statement.startswith(start):
                        found = cursor.fetchall() if cursor.description else []
                        seen[start] = len(found) if isinstance(expected, int) else found[-1]
    assert seen == EXPECTED
    assert keyed.one("select count(*) from ubp.user_links where unlinked_at is null") == 2


def test_what_it_says_of_errors(keyed: Database) -> None:
    text = " ".join(DOC.read_text().split())
    message = "attribute 'price' of items is a number, and 'cheap' is none"
    assert message in text
    with keyed.connect() as conn:
        conn.execute("select ubp.define_attribute('item', 'price', 'number')")
        with pytest.raises(Exception, match=message):
            conn.execute("select ubp.set_item_attribute(3, 'price', 'cheap'::text)")
