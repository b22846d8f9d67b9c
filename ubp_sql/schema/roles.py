"""Roles of the installation (DESIGN D9) and what each may do with the tables.

Roles belong to the whole cluster, so two databases of one server share them; the grants are per database.
"""

OWNER = "ubp_owner"
READER = "ubp_reader"

ROLES: dict[str, str] = {
    OWNER: "owns the tables of ubp_sql and runs refresh; nobody logs in as it",
    READER: "owns the scoring functions of ubp_sql and no table; nobody logs in as it",
    "ubp_loader": "may load events and refresh features (ETL jobs)",
    "ubp_analyst": "may score users and read features, not events",
    "ubp_auditor": "may read events, models and what happened, and change nothing",
    "ubp_admin": "may train, deploy and define; member of the three above",
}
MEMBERSHIPS: tuple[tuple[str, str], ...] = (
    ("ubp_loader", "ubp_admin"),
    ("ubp_analyst", "ubp_admin"),
    ("ubp_auditor", "ubp_admin"),
)
