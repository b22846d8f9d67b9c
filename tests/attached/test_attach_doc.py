"""docs/attach.md: its statements run as they stand, and its table of arguments is that of the function."""

import re
from pathlib import Path

from tests.fix_database import Database

PAGE = (Path(__file__).parents[2] / "docs" / "attach.md").read_text(encoding="utf-8")


def test_statements_run_as_printed(db: Database) -> None:
    [block] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    with db.connect() as conn:
        for statement in block.split(";\n"):
            conn.execute(statement.encode())
        assert conn.execute("select count(*) from ubp.attached_sources").fetchone() == (0,)


def test_each_argument_is_described(db: Database) -> None:
    names = db.one("select proargnames from pg_proc where oid = 'ubp.attach_source'::regproc")
    told = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)))
    assert [name for name in names[:10] if name not in told] == []
    assert "dry_run" in PAGE
