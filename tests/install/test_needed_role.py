"""A refused user is told the role that may: by the server's message, for every function and table there is."""

import psycopg
import pytest

from tests.fix_database import Database
from tests.install.conftest import Login
from ubp_sql.cli.shared import from_server
from ubp_sql.schema.roles import needed_role

MESSAGES = {
    "permission denied for function refresh_features": "ubp_loader",
    "permission denied for function score_users": "ubp_loader",
    "permission denied for function training_matrix": "ubp_admin",
    "permission denied for function register_model": "ubp_admin",
    "permission denied for function deploy_model": "ubp_admin",
    "permission denied for function define_task": "ubp_admin",
    "permission denied for function predict": "ubp_analyst",
    "permission denied for function predict_purchase": "ubp_analyst",
    "permission denied for function explain_purchase": "ubp_analyst",
    "permission denied for view tasks": "ubp_analyst",
    "permission denied for view user_features_weekly": "ubp_analyst",
    "permission denied for table events": "ubp_auditor",
    "permission denied for table training_purchase": "ubp_auditor",
    "permission denied for function training_set": "ubp_admin",
    "permission denied for table theirs": None,
    "permission denied for database shop": None,
    "must be owner of table events": None,
}


@pytest.mark.parametrize(("message", "role"), MESSAGES.items())
def test_role_of_a_message(message: str, role: str | None) -> None:
    assert needed_role(message) == role


OBJECTS = """
select format('permission denied for function %s', p.proname) as message,
       format('has_function_privilege(%L, %s, ''execute'')', '{role}', p.oid) as may
  from pg_proc p where p.pronamespace = 'ubp'::regnamespace
union all
select format('permission denied for table %s', c.relname),
       format('has_table_privilege(%L, %s, ''select'')', '{role}', c.oid)
  from pg_class c where c.relnamespace = 'ubp'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
"""


def test_the_role_named_may(shop: Database) -> None:
    """Whatever the message names is open to the role that the hint names."""
    wrong = []
    for row in shop.rows(OBJECTS.replace("'{role}'", "'@'")):
        role = needed_role(row["message"])
        if role is None or not shop.one("select " + row["may"].replace("'@'", f"'{role}'")):
            wrong.append((row["message"], role))
    assert wrong == []


def test_the_hint(db: Database, login: Login) -> None:
    for user, statement, hint in (
        (login("ubp_analyst"), "select * from ubp.refresh_features()", "grant ubp_loader to"),
        (login("ubp_loader"), "select ubp.deploy_model('x')", "grant ubp_admin to"),
        (login("ubp_analyst"), "select * from ubp.events", "grant ubp_auditor to"),
        (login("ubp_admin"), "select ubp.image_array('', '{}'::real[])", "nobody needs the right to"),
        (login(), "select ubp.predict('x', 1)", "grant ubp_analyst (predict, read), ubp_loader"),
    ):
        with db.connect(user=user) as conn, pytest.raises(psycopg.Error) as caught:
            conn.execute(statement.encode())
        shown = from_server(caught.value)
        assert (shown.sqlstate, shown.exit_code) == ("42501", 6)
        assert hint in str(shown.hint)
