"""A private PostgreSQL cluster for the demo, the tests and the benches: one directory, one Unix socket, no password."""

from ubp_sql.embedded.cluster import Cluster, Status

__all__ = ["Cluster", "Status"]
