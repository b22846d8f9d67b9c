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
    "build_mirror",
    "cancel_deployment",
    "cancel_refresh",
    "challenge_model",
    "compact_mirror",
    "copy_feature_set",
    "define_event_column",
    "define_feature",
    "define_feature_set",
    "define_features",
    "define_task",
    "deploy_model",
    "drop_feature_set",
    "drop_mirror",
    "feature_vector",
    "features",
    "features_at",
    "held_models",
    "parity_check",
    "predict_at",
    "predict_detail",
    "predict_detail_at",
    "predict_key",
    "predict_many",
    "rebuild_generated",
    "rebuild_mirror",
    "record_model_check",
    "refresh_features",
    "refresh_step",
    "register_model",
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
    "set_user_attribute",
    "shadow_model",
    "start_refresh",
    "training_matrix",
    "training_set",
    "verify_mirror",
    "version",
    "warm",
]


def __getattr__(name: str) -> object:
    """Loads the rest on first use: a session that only scores stored users never pays for it."""
    if name not in __all__:  # a module of this package: the import system asks for it here first
        raise AttributeError(name)
    for module in (
        "scoring",  # the first three: those that a session of an application waits for
        "memory",
        "live",
        "mirror",
        "mirror_verify",
        "catalogue",
        "drop_set",
        "attributes",
        "last_events",
        "refresh",
        "refresh_steps",
        "parity",
        "registry",
        "deployments",
        "model_checks",
        "population",
        "training",
        "training_table",
    ):
        __import__(f"ubp_sql.api.{module}")  # importlib itself would take another 1 % of a connection's first call
        found = getattr(globals()[module], name, None)
        if found is not None:
            globals()[name] = found
            return found
    raise AttributeError(name)
