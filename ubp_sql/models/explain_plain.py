"""Reasons in plain Python, where there is no native library: the bits of kernels/native_shap.py, some 300 times slower.

Every operation is that one's, in its order.
"""

from __future__ import annotations

from ubp_sql.kernels.forest_codes import CATEGORY, LEAST_SHARE, MISSING_LEFT, TINY, ZERO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ubp_sql.models.blob import Blob
    from ubp_sql.models.explain import Explainer

NODES = 2_000  # between two calls of `between`: 30 ms
