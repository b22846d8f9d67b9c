"""The sample of users that a model was studied on: what explanations compare a user with."""

from __future__ import annotations

from ubp_sql.api.session import single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    import numpy as np
    from numpy.typing import NDArray

    class Background(NamedTuple):
        """Rows of users, in the order of a hash of each: the first k of them are a sample too.

        rows  (n, features) float32, NaN is missing
        """

        as_of: str
        rows: NDArray[np.float32]
        typical: tuple[float, ...]


TYPICAL = "select b.typical from ubp.model_backgrounds b where b.model_id = $1"
BACKGROUND = "select b.as_of, b.sampled, b.rows, b.typical from ubp.model_backgrounds b where b.model_id = $1"
