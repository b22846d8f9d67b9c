"""`ubp-sql source attach | detach | list`: what is printed can be pasted, errors are one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.attached.conftest import Shop

PROGRAM = Path(sys.executable).parent / "ubp-sql"
ORDERS = ["shop.orders", "--user", "customer", "--time", "at", "--kind", "'purchase'", "--value", "amount"]


def run(shop: Shop, *arguments: str, code: int = 0) -> str:
    """What the command prints, as shop_owner."""
    argv = [str(PROGRAM), "source", *arguments, "--dsn", f"{shop.db.dsn} user=shop_owner"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_attach_list_detach(shop: Shop) -> None:
    shown = run(shop, "attach", *ORDERS, "--dry-run")
    assert "lock table shop.orders in share row exclusive mode;" in shown.splitlines()
    assert shop.one("select count(*) from ubp.attached_sources") == 0
    done = json.loads(run(shop, "attach", *ORDERS, "--json"))
    assert {row["step"] for row in done} >= {"lock", "grant", "source", "function", "trigger", "cannot see", "advice"}
    assert "shop.orders" in run(shop, "list")
    shop.run("insert into shop.orders (customer, at) values (null, now())")
    shop.run("alter table shop.orders disable trigger ubp_insert")
    found: list[dict[str, Any]] = json.loads(run(shop, "list", "--check", "--json"))
    assert [(row["reason"], row["rows"]) for row in found[1:]] == [("event", 40), ("no user", 1)]
    assert "does not hear of insert" in found[0]["reason"]
    gone = run(shop, "detach", "shop.orders")
    assert "revoke select on table shop.orders from ubp_owner, ubp_reader;" in gone.splitlines()
    assert "none yet" in run(shop, "list")


def test_errors_are_one_line_and_a_hint(shop: Shop) -> None:
    for arguments, code, said in (
        (
            ["attach", "shop.nothing", "--user", "a", "--time", "b", "--kind", "c"],
            2,
            "there is no table 'shop.nothing'",
        ),
        (["attach", *ORDERS[:2], "who", *ORDERS[3:]], 2, 'UB003: user_id: column "who" does not exist'),
        (["detach", "shop.nothing"], 2, "no attached source is called 'shop.nothing'"),
    ):
        lines = run(shop, *arguments, code=code).splitlines()
        assert said in lines[0], lines
        assert lines[1].startswith("hint: ")
        assert len(lines) == 2
