"""Feature rows as they are stored, thousands at a time, ready for the kernels of many rows."""

from typing import TYPE_CHECKING, Any, NamedTuple

from ubp_sql.api.serving import OTHER_LENGTH, Deployed
from ubp_sql.api.session import run
from ubp_sql.errors import FeatureSetMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ubp_sql.kernels.dispatch import F32, I64, Plan

    Stored = tuple[I64, F32]

# One copy of each number into arrays of arrays, of which images are made: half the time of an image a row.
UPWARDS = """
select ubp.array_image(array_agg(r.user_id)) as users, ubp.array_image(array_agg(r.features)) as features,
       ubp.array_image(array_agg(r.anchors) filter (where $4)) as anchors
  from (select user_id, features, anchors from ubp.feature_rows
         where feature_set_id = $1 and user_id >= $2 order by user_id limit $3) r"""
DOWNWARDS = UPWARDS.replace(">= $2 order by user_id", "<= $2 order by user_id desc")
# A feature of at least 1 says who has a score; without one, everybody counts. NaN is above every number, and a row
# without the feature must not be left out in silence.
SAMPLE = """
with whom as materialized (
  select r.user_id from ubp.feature_rows r
   where r.feature_set_id = $1 and ($2 is null or (r.features[$2] >= 1 and r.features[$2] <> 'NaN') is not false))
select ubp.array_image(array_agg(r.user_id)) as users, ubp.array_image(array_agg(r.features)) as features,
       ubp.array_image(array_agg(r.anchors) filter (where $4)) as anchors, (select count(*) from whom) as drawn_from
  from (select r.user_id, r.features, r.anchors
          from (select w.user_id, hashint8extended(w.user_id, 0) as place from whom w
                 order by place, user_id limit $3) w
          join ubp.feature_rows r on r.feature_set_id = $1 and r.user_id = w.user_id
         order by w.place, w.user_id) r"""
LOWEST = -(2**63)
READ_USERS = 4_000  # a call of a kernel costs 0.1 ms by itself; larger values leave the processor's caches
UNEQUAL = ("2202E", "22004")  # array_agg of arrays that differ in length, and of none beside some


class SetMoment(NamedTuple):
    """What the rows of a set are finished with: its plan, its as_of in microseconds since 1970, the local weekday."""

    plan: "Plan"
    as_of_us: int
    weekday: int


class Sampled(NamedTuple):
    """What a sample is drawn from: users of a set whose feature at a position is at least 1; None: all."""

    feature_set_id: int
    features: int
    moment: SetMoment
    position: int | None
    most: int


def all_rows(plpy: Any, memory: dict[str, Any], deployed: Deployed, moment: SetMoment) -> "Iterator[Stored]":
    """Users of the version's feature set, ascending, and their rows at the set's moment, some thousands at a time.

    Raises FeatureSetMismatch (UB002) on rows of another length than the model's.
    """
    lowest = LOWEST
    while True:
        found = some_rows(plpy, memory, deployed, moment, UPWARDS, lowest, READ_USERS)
        if len(found[0]):
            yield found
        if len(found[0]) < READ_USERS:
            return
        lowest = int(found[0][-1]) + 1


def some_rows(
    plpy: Any, memory: dict[str, Any], deployed: Deployed, moment: SetMoment, query: str, user_id: int, n: int
) -> "Stored":
    """n users from one on, by UPWARDS or DOWNWARDS: their ids (n,) and rows (n, features) at the set's moment.

    Raises FeatureSetMismatch (UB002) as `all_rows`.
    """
    width = len(moment.plan.anchors)
    arguments = [deployed.feature_set_id, user_id, n, width > 0]
    chunk = _read(plpy, memory, query, ["integer", "bigint", "integer", "boolean"], arguments)
    return _stored(chunk, moment, deployed.loaded.features)


def sampled_rows(plpy: Any, memory: dict[str, Any], of: "Sampled") -> "tuple[F32, int]":
    """(n, features) rows of a sample in the order of its hash, and how many users it was drawn from.

    Raises FeatureSetMismatch (UB002) as `all_rows`.
    """
    width = len(of.moment.plan.anchors)
    arguments = [of.feature_set_id, of.position, of.most, width > 0]
    chunk = _read(plpy, memory, SAMPLE, ["integer", "integer", "integer", "boolean"], arguments)
    return _stored(chunk, of.moment, of.features)[1], chunk["drawn_from"]


def _read(plpy: Any, memory: dict[str, Any], query: str, types: list[str], arguments: list[Any]) -> Any:
    try:
        return run(plpy, memory, query, types, arguments)[0]
    except plpy.SPIError as error:
        if error.sqlstate in UNEQUAL:
            raise FeatureSetMismatch(*OTHER_LENGTH) from None
        raise


def _stored(chunk: Any, moment: SetMoment, wide: int) -> "Stored":
    """Ids (n,) and rows (n, wide) of images of arrays."""
    import numpy as np

    from ubp_sql.api.refresh_rows import BIGINT, DOUBLE, REAL
    from ubp_sql.features.compute import age_rows

    width = len(moment.plan.anchors)
    if chunk["users"] is None:
        return np.empty(0, np.int64), np.empty((0, wide), np.float32)
    users = _array(chunk["users"], BIGINT, np.int64).copy()
    rows = _array(chunk["features"], REAL, np.float32, wide)
    if width:
        anchors = _array(chunk["anchors"], DOUBLE, np.float64, width)
        rows = age_rows(moment.plan, rows, anchors, moment.as_of_us, moment.weekday)
    return users, rows


def _array(image: bytes, element: int, kind: "type[Any]", width: int | None = None) -> "NDArray[Any]":
    """The values of an array's image, or of one of arrays of `width` values.

    Raises FeatureSetMismatch (UB002) where the arrays have another length, or a NULL among their values.
    """
    import numpy as np

    dimensions = 1 if width is None else 2
    size = 12 + 8 * dimensions
    head = np.frombuffer(image, np.int32, size // 4).tolist()
    if head[:3] != [dimensions, 0, element] or (width is not None and head[4] != width):
        raise FeatureSetMismatch(*OTHER_LENGTH)
    return np.frombuffer(image, kind, offset=size).reshape(head[3 : 3 + dimensions])
