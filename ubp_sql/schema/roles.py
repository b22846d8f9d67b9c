"""Roles of the installation (DESIGN D9): who they are, who is a member of whom, and which one a refused user lacks.

Roles belong to the whole cluster, so two databases of one server share them; the grants are per database.
"""

import re

OWNER = "ubp_owner"
READER = "ubp_reader"
LISTENER = "ubp_listener"

ROLES: dict[str, str] = {
    OWNER: "owns the tables of ubp_sql and the functions that write them; nobody logs in as it",
    READER: "owns the functions of ubp_sql that predict, and no table; nobody logs in as it",
    LISTENER: "owns the trigger functions of attached tables and may only log what they hear; nobody logs in as it",
    "ubp_loader": "may load events, refresh features, score everybody",
    "ubp_analyst": "may predict and read features and scores, not events",
    "ubp_auditor": "may read every table and predict, and change nothing",
    "ubp_admin": "may define, train and deploy; member of ubp_loader, ubp_analyst and ubp_auditor",
}
MEMBERSHIPS: tuple[tuple[str, str], ...] = (
    (LISTENER, OWNER),
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
    ("ubp_loader", "refresh_features start_refresh refresh_step cancel_refresh schedule_refresh unschedule_refresh"),
    ("ubp_loader", "check_quality"),
    ("ubp_admin", "define_quality_rule dismiss_finding"),
    ("ubp_analyst", "data_quality quality_rules quality_findings"),
    ("ubp_auditor", "flagged_events"),
    ("ubp_loader", "parity_check set_user_attribute set_item_attribute score_users ensure_event_partitions"),
    ("ubp_loader", "loads load_parts event_keys rejected_events job_runs give_ids"),
    ("ubp_auditor", "anonymous_events explain_events"),
    ("ubp_admin", "training_matrix training_set outcomes_until register_model deploy_model rollback_model define_task"),
    ("ubp_admin", "challenge_model shadow_model retire_model cancel_deployment record_model_check"),
    ("ubp_admin", "record_test calibrate_model add_calibration_map use_calibration"),
    ("ubp_analyst", "calibration_maps calibration_tests reliability calibration_report"),
    ("ubp_auditor", "model_tests"),
    (
        "ubp_admin",
        "define_feature_set define_feature define_features copy_feature_set drop_feature_set rebuild_generated",
    ),
    ("ubp_admin", "refresh_question refresh_events store_refreshed training_question training_pairs"),
    ("ubp_admin", "build_mirror rebuild_mirror compact_mirror drop_mirror define_event_column watch_event_partitions"),
    ("ubp_analyst", "score score_all score_blob score_blob_all features version resolve_user array_image"),
    ("ubp_analyst", "feature_vector sequence_kinds warm held_models loaded_models explain explain_many"),
    ("ubp_analyst", "installation alembic_version tasks model_versions feature_catalogue feature_sets"),
    ("ubp_analyst", "feature_definitions task_definitions calendar model_metrics user_scores user_features freshness"),
    ("ubp_analyst", "mirror_status resolve_item deployed_versions shadow_report shadow_scores"),
    ("ubp_auditor", "verify_mirror sequence sequences sequence_matrix events sources users items feature_rows models"),
    ("ubp_auditor", "score_rows score_runs"),
    ("ubp_auditor", "deployments event_log mirror_state mirror_runs mirror_chunks mirror_kinds event_columns"),
    (
        "ubp_auditor",
        "dirty_users item_attributes awaited_users expiries refresh_jobs refresh_chunks standings deployment_arms",
    ),
    (
        "ubp_owner",
        "image_array array_bytes log_calendar log_event_insert log_event_update log_event_delete log_event_truncate",
    ),
    ("ubp_auditor", "attached_sources user_members source_report event_rows all_events event_span"),
    ("ubp_admin", "attach_source detach_source record_source forget_source watch_sources renew_source"),
    ("ubp_analyst", "source_problems to_time newest_events"),
    ("ubp_owner", "log_source_zone log_item_attributes check_item_attributes"),
    ("ubp_loader", "set_user_attributes set_item_attributes link_users unlink_users user_links user_attributes"),
    ("ubp_loader", "user_profiles study_model"),
    ("ubp_analyst", "explain_surrogate feature_importance partial_dependence model_importance model_effects"),
    ("ubp_auditor", "model_backgrounds"),
    ("ubp_admin", "define_attribute"),
    ("ubp_admin", "set_abstention conform_model"),
    ("ubp_analyst", "decide decide_many top_users profit_curve threshold task_policies conformal_quantiles"),
    ("ubp_analyst", "resolve_member attributes user_profile item_profile item_profiles"),
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
    made = {"training": "ubp_auditor", "explain": "ubp_analyst"}.get(name.partition("_")[0])
    return next((role for role, names in _NEEDED if name in names.split()), made)
