"""Every page of docs/howto does what it says, run as it stands against a fresh database."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_database import Database, create, drop
from tests.howto.pages import FOLDER, PAGES, run, same, steps
from ubp_sql.embedded import Cluster

READER = "howto_reader"
ROLES = {"load-a-file": "ubp_loader", "correct-and-delete": "ubp_admin, ubp_owner"}  # others: ubp_admin


@pytest.fixture
def shop_of_theirs(cluster: Cluster, installed: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database that the reader of a page owns, who is no superuser and in the roles that the page asks for."""
    made = create(cluster, installed)
    roles = ROLES.get(request.getfixturevalue("page").stem, "ubp_admin")
    made.execute(f"create role {READER} login in role {roles}")
    made.execute(f"alter database {made.name} owner to {READER}")
    yield made
    drop(made)
    Database(cluster, "postgres").execute(f"drop role {READER}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_run_as_printed(shop_of_theirs: Database, tmp_path: Path, page: Path) -> None:
    compared = 0
    for step in steps(page):
        done = run(step, shop_of_theirs, READER, tmp_path)
        where = f"{page.name} line {step.line}"
        assert done.returncode == 0, f"{where}: {done.stderr}"
        if step.shown is not None:
            compared += 1
            assert same(step.shown, done.stdout), f"{where} printed:\n{done.stdout}"
    assert compared >= 3


def test_the_comparison_can_fail() -> None:
    assert same("a ... c\n...\nz", "a b c\n1\n2\nz\n")
    assert not same("a ... c", "a b d")
    assert not same("a\nz", "a\nb\nz")
    assert not same("1 | 2", "1 | 3")


def test_the_index_names_every_page_and_links_lead_somewhere() -> None:
    index = (FOLDER / "README.md").read_text()
    assert {page.name for page in PAGES} == set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    for page in [*PAGES, FOLDER / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text()):
            assert (FOLDER / target).exists(), f"{page.name}: {target}"
