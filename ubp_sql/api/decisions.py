"""Whether to act on users: what acting is worth by their scores, against what it costs."""

from __future__ import annotations

from ubp_sql.api.json_text import value_of
from ubp_sql.api.predict import predict_detail, predict_many
from ubp_sql.api.session import Row, entry
from ubp_sql.errors import BadInput
from ubp_sql.models.decisions import EXAMPLE, CostMatrix, Stakes, cost_matrix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


@entry
def decide(
    plpy: Any, memory: dict[str, Any], task: str, user_id: int | None, gain: float | None, cost: float | None
) -> list[Row]:
    """Act where score * gain > cost; act is None, with the reason, where there is no score."""
    return _of_one(plpy, memory, task, user_id, Stakes(gain, cost))


@entry
def decide_by_costs(plpy: Any, memory: dict[str, Any], task: str, user_id: int | None, costs: str | None) -> list[Row]:
    """Act where that costs less on average than to skip."""
    return _of_one(plpy, memory, task, user_id, _costs(costs))


@entry
def decide_many(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    user_ids: list[int | None] | None,
    gain: float | None,
    cost: float | None,
) -> Any:
    """`decide` of many users, in the order asked."""
    return _of_many(plpy, memory, task, user_ids, Stakes(gain, cost))


@entry
def decide_many_by_costs(
    plpy: Any, memory: dict[str, Any], task: str, user_ids: list[int | None] | None, costs: str | None
) -> Any:
    """`decide_by_costs` of many users, in the order asked."""
    return _of_many(plpy, memory, task, user_ids, _costs(costs))


@entry
def threshold(plpy: Any, memory: dict[str, Any], costs: str | None) -> float:
    """The chance above which acting costs less than skipping."""
    return _costs(costs).threshold()


def _of_one(
    plpy: Any, memory: dict[str, Any], task: str, user_id: int | None, stakes: Stakes | CostMatrix
) -> list[Row]:
    said = predict_detail(plpy, memory, task, user_id)[0]
    act, profit, reason = _decided(stakes, said["score"], said["reason"])
    return [{"act": act, "expected_profit": profit, "score": said["score"], "reason": reason}]


def _of_many(
    plpy: Any,
    memory: dict[str, Any],
    task: str,
    user_ids: list[int | None] | None,
    stakes: Stakes | CostMatrix,
) -> Iterator[tuple[Any, ...]]:
    if user_ids is None:
        raise BadInput("user_ids is NULL", "array[17850, 13047]")
    said = predict_many(plpy, memory, task, user_ids)
    rows = ((user, score, _decided(stakes, score, reason)) for user, score, reason in said)
    return ((user, act, profit, score, why) for user, score, (act, profit, why) in rows)


def _decided(
    stakes: Stakes | CostMatrix, score: float | None, reason: str | None
) -> tuple[bool | None, float | None, str | None]:
    return (None, None, reason) if score is None else stakes.verdict(score)


def _costs(text: str | None) -> CostMatrix:
    return cost_matrix(value_of(text, "costs", EXAMPLE, EXAMPLE))
