"""Roles of the installation (DESIGN D9): who they are, who is a member of whom, and which one a refused user lacks.

Roles belong to the whole cluster, so two databases of one server share them; the grants are per database.
"""

import re

OWNER = "ubp_owner"
READER = "ubp_reader"

ROLES: dict[str, str] = {
    OWNER: "owns the tables of ubp_sql and the functions that write them; nobody logs in as it",
    READER: "owns the functions of ubp_sql that predict, and no table; nobody logs in as it",
    "ubp_loader": "may load events, refresh features, score everybody",
    "ubp_analyst": "may predict and read features and scores, not events",
    "ubp_auditor": "may read every table and predict, and change nothing",
    "ubp_admin": "may define, train and deploy; member of ubp_loader, ubp_analyst and ubp_auditor",
}
MEMBERSHIPS: tuple[tuple[str, str], ...] = (
    ("ubp_loader", "ubp_admin"),
    ("ubp_analyst", "ubp_admin"),
    ("ubp_auditor", "ubp_admin"),
)
# What a membership lets its holder do, in a word or two; the rest of ROLES is for people who read comments.
MAY: dict[str, str] = {
    "ubp_loader": "load, refresh, score",
    "ubp_analyst": "predict and read features and scores",
    "ubp_auditor": "read every table",
    "ubp_admin": "define, train, deploy, and what loader, analyst and auditor may",
}
# The smallest role that may use what is named.
_NEEDED: tuple[tuple[str, str], ...] = (
    ("ubp_loader", "refresh_features score_users ensure_event_partitions loads event_keys rejected_events job_runs"),
    ("ubp_admin", "training_matrix register_model deploy_model rollback_model define_feature_set define_task"),
    ("ubp_admin", "rebuild_generated"),
    ("ubp_analyst", "score score_blob features version resolve_user installation alembic_version"),
    ("ubp_analyst", "tasks model_versions feature_catalogue feature_sets feature_definitions task_definitions"),
    ("ubp_analyst", "model_metrics user_scores user_features"),
    ("ubp_auditor", "events sources users items feature_rows models deployments"),
)
_DENIED = re.compile(r"permission denied for \w+(?: \w+)? \"?(\w+)\"?$")


def needed_role(message: str) -> str | None:
    """The role that may use what the server's "permission denied for ..." names; None where the message does not tell.

    A table is named for whoever reads it: to write one is the loader's, or a function's.
    """
    found = _DENIED.search(message)
    if found is None:
        return None
    name = found[1]
    if name.startswith(("predict", "user_features_")):
        return "ubp_analyst"
    return next((role for role, names in _NEEDED if name in names.split()), None)
