"""Fixture: one throw-away PostgreSQL cluster for the whole test session."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ubp_sql.embedded import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster without durability; gone at the end of the session, also when tests fail.

    Not below tmp_path: pytest makes that 0700, and the files of a server that root starts would lie elsewhere.
    """
    directory = Path(tempfile.mkdtemp(prefix="ubp-test-"))
    directory.chmod(0o711)
    made = Cluster(directory, fast=True)
    try:
        made.start()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)
