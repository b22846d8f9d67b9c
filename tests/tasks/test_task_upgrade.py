"""Tasks that older code does not know, down and up again."""

from tests.fix_database import Database
from ubp_sql.install import commands

TASKS = "select task, label, output, label_kind, meaning from ubp.task_definitions order by task"
LABELS = {
    "amount": '{"count": ["purchase", "view"], "from": "7d"}',
    "churn": '{"none": "purchase"}',
    "odd": '{"any": ["purchase"], "where": {"value": {"min": 3}}}',
    "paid": '{"table": "crm.paid", "user": "customer", "time": "at", "value": "amount"}',
    "plain": '{"any": "purchase"}',
    "several": '{"any": ["view", "purchase"]}',
    "wait": '{"days_until": "view"}',
}


def test_down_and_up(db: Database) -> None:
    with db.connect() as conn:
        conn.execute("select ubp.define_feature_set('default', array['purchase', 'view'], array[7])")
        conn.execute("create schema crm")
        conn.execute("create table crm.paid (customer integer, at timestamptz, amount real)")
        conn.execute("grant usage on schema crm to ubp_owner; grant select on crm.paid to ubp_owner")
        for task, label in LABELS.items():
            conn.execute("select ubp.define_task(%s, population_kind => 'view', label => %s)", [task, label])
        before = db.rows(TASKS)
        commands.downgrade(conn, "0020", run=True)
        kinds = {row["task"]: row["label_kind"] for row in db.rows("select task, label_kind from ubp.task_definitions")}
        assert kinds["plain"] == "purchase"
        assert {kind[0] for task, kind in kinds.items() if task != "plain"} == {"{"}, "no kind, so that none trains it"
        commands.apply(conn)
        assert db.rows(TASKS) == before
        assert {row["task"]: row["label_kind"] for row in before} == {
            "amount": None, "churn": "purchase", "odd": "purchase", "paid": None, "plain": "purchase", "several": None,
            "wait": "view",
        }  # fmt: skip
