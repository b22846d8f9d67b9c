"""The sample of users that a model was studied on: what explanations compare a user with."""

from __future__ import annotations

from ubp_sql.api.session import single
from ubp_sql.errors import NotReady

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from ubp_sql.api.serving import Deployed

TYPICAL = "select b.typical from ubp.model_backgrounds b where b.model_id = $1"
# No rows where the session has them already.
BACKGROUND = """
select s.us as studied_us, b.as_of, b.sampled, b.typical, case when s.us is distinct from $2 then b.rows end as rows
  from ubp.model_backgrounds b, lateral (select (extract(epoch from b.studied_at) * 1000000)::bigint as us) s
 where b.model_id = $1"""


class Background:
    """A model's sample.

    rows     (n, features) float32, NaN is missing; in the order of a hash of the user, so that the first k are a sample
             too; the model has a raw score for each
    typical  of each feature; NaN where most have none
    """

    __slots__ = ("as_of", "model_id", "rows", "studied_us", "typical")

    def __init__(self, model_id: int, row: dict[str, Any], rows: NDArray[np.float32]) -> None:
        self.model_id, self.rows = model_id, rows
        self.studied_us: int = row["studied_us"]
        self.as_of: str = row["as_of"]
        self.typical: tuple[float, ...] = tuple(row["typical"])


def typical_of(plpy: Any, memory: dict[str, Any], model_id: int) -> tuple[float, ...] | None:
    """The typical value of each feature; NaN where most have none; None for a model that was not studied."""
    row = single(plpy, memory, TYPICAL, ["bigint"], [model_id])
    return None if row is None else tuple(row["typical"])


def background_of(plpy: Any, memory: dict[str, Any], model_id: int) -> Background | None:
    """A model's sample; None where it was not studied. The session keeps the last one."""
    kept: Background | None = memory.get("background")
    known = kept.studied_us if kept is not None and kept.model_id == model_id else None
    row = single(plpy, memory, BACKGROUND, ["bigint", "bigint"], [model_id, known])
    if row is None or row["rows"] is None:
        return None if row is None else kept
    import numpy as np

    rows = np.frombuffer(row["rows"], "<f4").astype(np.float32, copy=False).reshape(row["sampled"], -1)
    memory["background"] = found = Background(model_id, row, rows)
    return found


def studied(plpy: Any, memory: dict[str, Any], deployed: Deployed) -> Background:
    """The sample of a deployed version. Raises NotReady (UB005) where it was not studied."""
    found = background_of(plpy, memory, deployed.model_id)
    if found is None:
        raise NotReady(
            f"version {deployed.version} of {deployed.task!r} was not studied: there are no users to compare with",
            f"`ubp-sql model study {deployed.task}`, or ubp.study_model({deployed.task!r}), as ubp_admin",
        )
    return found
