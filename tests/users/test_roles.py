"""Who may link, say and read what: each statement as a member of each role."""

import psycopg
import pytest

from tests.fix_database import Database

ANALYST, LOADER, AUDITOR, ADMIN = "ubp_analyst", "ubp_loader", "ubp_auditor", "ubp_admin"
MAY = {
    "select ubp.resolve_member('17850')": (ANALYST, LOADER, AUDITOR, ADMIN),
    "select * from ubp.user_profile('17850')": (ANALYST, LOADER, AUDITOR, ADMIN),
    "select * from ubp.item_profile('3', now())": (ANALYST, LOADER, AUDITOR, ADMIN),
    "select * from ubp.attributes": (ANALYST, LOADER, AUDITOR, ADMIN),
    "select * from ubp.user_members": (ANALYST, LOADER, AUDITOR, ADMIN),
    "select * from ubp.item_profiles": (ANALYST, LOADER, AUDITOR, ADMIN),
    "select * from ubp.user_profiles": (LOADER, AUDITOR, ADMIN),
    "select * from ubp.user_attributes": (LOADER, AUDITOR, ADMIN),
    "select * from ubp.user_links": (LOADER, AUDITOR, ADMIN),
    "select ubp.link_users('1', '2')": (LOADER, ADMIN),
    'select ubp.set_user_attributes(\'[{"user_key": "n@new", "age": 1}]\')': (LOADER, ADMIN),
    'select ubp.set_item_attributes(\'[{"item_key": "new", "price": 1}]\')': (LOADER, ADMIN),
    "select ubp.define_attribute('item', 'price', 'number')": (ADMIN,),
    "insert into ubp.calendar (day, name) values ('2026-11-27', 'Black Friday')": (LOADER, ADMIN),
    "insert into ubp.user_members values (1, 2)": (),
    "insert into ubp.attributes (\"of\", name, type) values ('item', 'price', 'text')": (),
    "delete from ubp.user_links": (),
}


@pytest.mark.parametrize("role", [ANALYST, LOADER, AUDITOR, ADMIN])
def test_who_may(keyed_template: Database, role: str) -> None:
    with keyed_template.connect() as conn:
        conn.execute(f"set role {role}".encode())
        for statement, roles in MAY.items():
            with conn.transaction(force_rollback=True):
                try:
                    with conn.transaction():
                        conn.execute(statement.encode())
                    allowed = True
                except psycopg.errors.InsufficientPrivilege:
                    allowed = False
            assert allowed == (role in roles), statement


def test_a_link_names_the_role_that_made_it(keyed: Database) -> None:
    with keyed.connect() as conn:
        conn.execute("set role ubp_loader")
        conn.execute("select ubp.link_users('1', '2'), ubp.unlink_users('1', '2')")
    assert keyed.rows("select linked_by, unlinked_by from ubp.user_links") == [
        {"linked_by": "ubp_loader", "unlinked_by": "ubp_loader"}
    ]
