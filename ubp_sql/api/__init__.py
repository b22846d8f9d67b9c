"""What the PL/Python bodies in udfs/ call; `plpy` comes in as the first argument, and no other package sees it.

Scoring one stored user loads neither NumPy nor Numba: the modules that need them are imported inside the calls.
"""

from ubp_sql.api.predict import (
    predict,
    predict_at,
    predict_detail,
    predict_detail_at,
    predict_key,
    predict_many,
    score,
    score_blob,
)
from ubp_sql.api.session import version

__all__ = [
    "define_feature_set",
    "define_task",
    "deploy_model",
    "features",
    "features_at",
    "predict",
    "predict_at",
    "predict_detail",
    "predict_detail_at",
    "predict_key",
    "predict_many",
    "rebuild_generated",
    "refresh_features",
    "register_model",
    "rollback_model",
    "score",
    "score_blob",
    "score_users",
    "training_matrix",
    "version",
]


def __getattr__(name: str) -> object:
    """Loads the rest on first use: a session that only scores stored users never pays for it."""
    from importlib import import_module

    for module in ("catalogue", "live", "refresh", "registry", "population", "training"):
        found = getattr(import_module(f"ubp_sql.api.{module}"), name, None)
        if found is not None:
            globals()[name] = found
            return found
    raise AttributeError(name)
