"""What the PL/Python bodies in udfs/ call; `plpy` comes in as the first argument, and no other package sees it.

Scoring one stored user loads neither NumPy nor Numba: the modules that need them are imported inside the calls.
"""

from ubp_sql.api.predict import (
    predict_at,
    predict_detail,
    predict_detail_at,
    predict_key,
    predict_many,
)
from ubp_sql.api.served_task import served
from ubp_sql.api.session import version

__all__ = [
    "attach_source",
    "build_mirror",
    "cancel_deployment",
    "cancel_refresh",
    "challenge_model",
    "check_quality",
    "compact_mirror",
    "copy_feature_set",
    "define_attribute",
    "define_event_column",
    "define_feature",
    "define_feature_set",
    "define_features",
    "define_quality_rule",
    "define_task",
    "deploy_model",
    "detach_source",
    "dismiss_finding",
    "drop_feature_set",
    "drop_mirror",
    "explain_surrogate",
    "feature_vector",
    "features",
    "features_at",
    "forget_source",
    "held_models",
    "link_users",
    "outcomes_until",
    "parity_check",
    "predict_at",
    "predict_detail",
    "predict_detail_at",
    "predict_if",
    "predict_if_detail",
    "predict_key",
    "predict_many",
    "rebuild_generated",
    "rebuild_mirror",
    "record_model_check",
    "record_source",
    "refresh_features",
    "refresh_step",
    "register_model",
    "renew_source",
    "retire_model",
    "rollback_model",
    "score",
    "score_all",
    "score_blob",
    "score_blob_all",
    "score_users",
    "sequence",
    "sequence_kinds",
    "sequence_matrix",
    "sequences",
    "served",
    "set_item_attribute",
    "set_item_attributes",
    "set_user_attribute",
    "set_user_attributes",
    "shadow_model",
    "source_problems",
    "source_report",
    "start_refresh",
    "study_model",
    "training_matrix",
    "training_set",
    "unlink_users",
    "verify_mirror",
    "version",
    "warm",
    "watch_sources",
]


def __getattr__(name: str) -> object:
    """Loads the rest on first use: a session that only scores stored users never pays for it."""
    if name not in __all__:  # a module of this package: the import system asks for it here first
        raise AttributeError(name)
    for module in (
        "scoring",  # the first three: those that a session of an application waits for
        "memory",
        "live",
        "what_if",
        "mirror",
        "mirror_verify",
        "catalogue",
        "task_definition",
        "drop_set",
        "attributes",
        "sources",
        "source_watch",
        "many_attributes",
        "links",
        "last_events",
        "refresh",
        "refresh_steps",
        "parity",
        "registry",
        "deployments",
        "model_checks",
        "population",
        "study",
        "surrogates",
        "training",
        "training_table",
        "quality",
    ):
        __import__(f"ubp_sql.api.{module}")  # importlib itself would take another 1 % of a connection's first call
        found = getattr(globals()[module], name, None)
        if found is not None:
            globals()[name] = found
            return found
    raise AttributeError(name)
