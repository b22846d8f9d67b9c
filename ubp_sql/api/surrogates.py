"""A linear model near one user: what each feature is worth to a score that nobody can read off the model itself."""

from __future__ import annotations

import math
from zlib import crc32

from ubp_sql.api.backgrounds import studied
from ubp_sql.api.live import NAMES
from ubp_sql.api.served_task import LOOKUP
from ubp_sql.api.serving import Deployed, answering, judge, known_deployment, no_deployment
from ubp_sql.api.session import entry, prepare_numba, run, single, touch
from ubp_sql.errors import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

LOW = 0.5  # a fidelity below is said aloud


@entry
def explain_surrogate(
    plpy: Any, memory: dict[str, Any], task: str | None, user_id: int | None, top: int | None
) -> Iterator[tuple[Any, ...]]:
    """(rank, feature, value, typical, weight, effect, fidelity) of the features with the largest effects."""
    if top is None or top < 1:
        raise BadInput(f"top is {top}", "how many features to name, from 1 on")
    deployed, packed = _answer(plpy, memory, task, user_id)
    score, reason = judge(deployed, packed)
    if packed is None or score is None:
        plpy.notice(f"nothing to explain: {reason}")
        return
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
    effects = found.weights * (row - np.array(background.typical))
    names = [name["name"] for name in run(plpy, memory, NAMES, ["integer"], [deployed.feature_set_id])]
    order = np.argsort(-np.abs(np.nan_to_num(effects, nan=0.0)), kind="stable")[:top]
    for rank, i in enumerate(order.tolist(), 1):
        numbers = row[i], background.typical[i], found.weights[i], effects[i], found.fidelity
        yield rank, names[i], *(None if math.isnan(number) else float(number) for number in numbers)


def _answer(
    plpy: Any, memory: dict[str, Any], task: str | None, user_id: int | None
) -> tuple[Deployed, bytes | None]:
    """Who answers for a user, and his row of that version's features."""
    row = single(plpy, memory, LOOKUP, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task or "")
    if row["packed"] is None:
        from ubp_sql.api.members import whose

        other = whose(plpy, memory, user_id)
        if other is not None:
            return _answer(plpy, memory, task, other)
    return answering(plpy, memory, known_deployment(plpy, memory, row["deployment_id"]), user_id, row)


def _values(deployed: Deployed, pause: Callable[[], object]) -> Callable[[F32], F64]:
    """What predict gives of rows."""
    from ubp_sql.models.calibration import batch

    def values(rows: F32) -> F64:
        pause()
        scores: F64 = deployed.loaded.score_batch(rows, pause)[:, 0]
        map_ = getattr(deployed, "map", None)
        return scores if map_ is None else batch(map_, scores, pause)

    return values
