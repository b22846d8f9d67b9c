"""What the features of one user contribute to the raw score of a model that is not trees: exact for a linear one,
sampled for all others.
"""

from __future__ import annotations

from zlib import crc32

from ubp_sql.api.backgrounds import studied
from ubp_sql.api.serving import Deployed
from ubp_sql.api.session import prepare_numba, touch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_ROWS = 20_000  # of users half replaced by others that are scored: some 20 ms
MOST_WORK = 4_000_000_000  # multiplications of a network for them: 1 to 4 s


def contributions(plpy: Any, memory: dict[str, Any], deployed: Deployed, packed: bytes) -> tuple[float, list[float]]:
    """Mean raw score of others, and what each feature adds to it: math.fsum of all is the user's raw score.

    packed  the user's row, float32 in machine order, of a user who has a score

    The same row gives the same numbers. Raises NotReady (UB005) where the model was not studied, UnsupportedModel
    (UB007) where it has several outputs, or gives no number for the user with some features of others.
    """
    background = studied(plpy, memory, deployed)
    prepare_numba()
    import numpy as np

    from ubp_sql.models.linear import LinearModel
    from ubp_sql.models.raw import raw_batch
    from ubp_sql.models.shapley import linear_values, sampled

    loaded, row = deployed.loaded, np.frombuffer(packed, np.float32)
    if isinstance(loaded, LinearModel) and loaded.outputs == 1:
        return linear_values(loaded.linear, row, background.rows)[:2]

    def raw(rows: np.ndarray[Any, Any]) -> Any:
        touch(plpy, memory)
        return raw_batch(loaded, rows, lambda: touch(plpy, memory))

    return sampled(raw, row, background.rows, pairs_of(deployed), crc32(packed))[:2]


def pairs_of(deployed: Deployed) -> int:
    """How many permutations and reverses are drawn: fewer for many features, and for a network that takes long."""
    from ubp_sql.models.raw import work_of
    from ubp_sql.models.shapley import PAIRS

    loaded = deployed.loaded
    rows = min(MOST_ROWS, MOST_WORK // max(1, work_of(loaded)))
    return max(2, min(PAIRS, rows // (2 * loaded.features + 2)))
