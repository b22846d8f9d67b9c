"""Clusters for the tests of clusters: fast ones, in short directories that the server's account can reach."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ubp_sql.embedded import Cluster

MakeCluster = Callable[..., Cluster]
Ask = Callable[..., object]


@pytest.fixture
def room() -> Iterator[Path]:
    """An empty directory that other accounts may pass through."""
    directory = Path(tempfile.mkdtemp(prefix="ubp-t-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_cluster(room: Path) -> Iterator[MakeCluster]:
    """Names clusters (not yet started); all are stopped and removed at the end."""
    made: list[Cluster] = []

    def make(directory: Path | str = "c") -> Cluster:
        made.append(Cluster(room / directory, fast=True))
        return made[-1]

    yield make
    for cluster in made:
        cluster.remove()


@pytest.fixture
def ask() -> Ask:
    """The first value of a query's answer; None for a command without one."""

    def run(cluster: Cluster, query: str, database: str = "ubp") -> object:
        with psycopg.connect(cluster.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    return run
