"""A linear model near one user: what each feature is worth to a score that nobody can read off the model itself."""

from __future__ import annotations

import math
from zlib import crc32

from ubp_sql.api.backgrounds import studied
from ubp_sql.api.explain_user import answer_for, check_top
from ubp_sql.api.live import NAMES
from ubp_sql.api.serving import Deployed
from ubp_sql.api.session import entry, prepare_numba, run, touch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

LOW = 0.5  # a fidelity below is said aloud


@entry
def explain_surrogate(
    plpy: Any, memory: dict[str, Any], task: str | None, user_id: int | None, top: int | None
) -> list[tuple[Any, ...]]:
    """(rank, feature, value, typical, weight, effect, fidelity) of the features with the largest effects."""
    check_top(top)
    deployed, packed, reason = answer_for(plpy, memory, task or "", user_id)
    if packed is None or reason is not None:
        plpy.notice(f"no score to explain: {reason}")
        return []
    background = studied(plpy, memory, deployed)
    prepare_numba()
    import numpy as np

    from ubp_sql.models.surrogate import surrogate

    def pause() -> None:
        touch(plpy, memory)

    row = np.frombuffer(packed, np.float32)
    found = surrogate(_values(deployed, pause), row, background.rows, crc32(packed), pause)
    if found.fidelity < LOW:
        plpy.notice(
            f"the linear model explains {max(0.0, found.fidelity):.0%} of how scores vary near the user: "
            "trust ubp.explain instead"
        )
    typical = np.array(background.typical, np.float32)
    effects = found.weights * (row - typical.astype(np.float64))
    names = [name["name"] for name in run(plpy, memory, NAMES, ["integer"], [deployed.feature_set_id])]
    order = np.argsort(-np.abs(np.nan_to_num(effects, nan=0.0)), kind="stable")[:top]
    lines = []
    for rank, i in enumerate(order.tolist(), 1):
        numbers = (_short(row[i]), _short(typical[i]), found.weights[i], effects[i], found.fidelity)
        lines.append((rank, names[i], *(None if math.isnan(number) else float(number) for number in numbers)))
    return lines


def _short(x: np.float32) -> float:
    """The shortest decimal number that is this float32: 0.1, not 0.10000000149."""
    return float(str(x))


def _values(deployed: Deployed, pause: Callable[[], object]) -> Callable[[F32], F64]:
    """What predict gives of rows."""

    def values(rows: F32) -> F64:
        pause()
        return deployed.values(deployed.loaded.score_batch(rows, pause)[:, 0], pause)

    return values
