"""Reasons: what each feature adds to a user's raw score, the largest first, in numbers and in words."""

from __future__ import annotations

from array import array
from math import fsum

from ubp_sql.api.backgrounds import studied, typical_of
from ubp_sql.api.predict import answer_at, flat, of_whom, row_for
from ubp_sql.api.served_task import LOOKUP
from ubp_sql.api.serving import Deployed, answering, judge, known_deployment, policy_of
from ubp_sql.api.session import entry, prepare_numba, run, touch
from ubp_sql.errors import BadInput
from ubp_sql.models.explain import open_explainer
from ubp_sql.models.loaded import TreeModel
from ubp_sql.models.reasons import Told, tell
from ubp_sql.models.walker import link_totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ubp_sql.models.explain import Explainer

    Answer = tuple[Deployed, bytes | None, str | None]
    Line = tuple[int, str, float | None, float | None, float, str]

OF_MODEL = """
select m.explainer, t.output,
       (select array_agg(f.name order by f.position) from ubp.feature_definitions f
         where f.feature_set_id = m.feature_set_id) as names,
       (select array_agg(f.meaning order by f.position) from ubp.feature_definitions f
         where f.feature_set_id = m.feature_set_id) as meanings
  from ubp.models m join ubp.task_definitions t using (task) where m.model_id = $1"""
TOUCHED = 32  # users between two looks at a cancel: some 20 ms


@entry
def explain(plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, top: int | None) -> list[Line]:
    """(rank, feature, value, typical, contribution, meaning): the base, the `top` largest, and the rest as one."""
    check_top(top)
    return _said(plpy, memory, answer_for(plpy, memory, task, user_id), top)


@entry
def explain_at(
    plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, as_of: str | None, top: int | None
) -> list[Line]:
    """As `explain`, of the features computed from the raw events at a moment."""
    check_top(top)
    if user_id is None:
        return _said(plpy, memory, answer_for(plpy, memory, task, None), top)
    deployed, packed, policy = answer_at(plpy, memory, task, user_id, as_of)
    return _said(plpy, memory, (deployed, packed, judge(deployed, packed, policy)[1]), top)


@entry
def explain_many(
    plpy: Any, memory: dict[Any, Any], task: str, user_ids: list[int | None] | None, top: int | None
) -> Iterator[tuple[Any, ...]]:
    """Rows of `explain` behind the user's id, in the order asked; one without a rank says why there is no score."""
    check_top(top)
    if user_ids is None:
        raise BadInput("user_ids is NULL", "an array of user ids: array(select user_id from ...)")
    deployed = answer_for(plpy, memory, task, None)[0]
    if _kept(plpy, memory, deployed).explainer is None:
        studied(plpy, memory, deployed)  # here: of an error among rows PL/Python makes its own line the first
    return _each(plpy, memory, task, user_ids, top)


def _each(
    plpy: Any, memory: dict[Any, Any], task: str, user_ids: list[int | None], top: int | None
) -> Iterator[tuple[Any, ...]]:
    for number, user_id in enumerate(flat(user_ids)):
        if number % TOUCHED == TOUCHED - 1:
            touch(plpy, memory)
        deployed, packed, reason = answer_for(plpy, memory, task, user_id)
        if packed is None or reason is not None:
            yield user_id, None, None, None, None, None, reason
            continue
        for line in _lines(plpy, memory, deployed, packed, top):
            yield user_id, *line


def check_top(top: int | None) -> None:
    if top is None or top < 1:
        raise BadInput(f"top is {'NULL' if top is None else top}", "how many features are named: 5, or any from 1")


def answer_for(plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None) -> Answer:
    """Who answers for a user, the row of features, and why there is no score; None where there is."""
    row, whose_id = row_for(plpy, memory, LOOKUP, task, user_id)
    champion = known_deployment(plpy, memory, row["deployment_id"])
    if user_id is None:
        return champion, None, "the user id is NULL"
    deployed, packed = answering(plpy, memory, champion, whose_id, row)
    policy = policy_of(plpy, memory, deployed, row["abstains"])
    return deployed, packed, of_whom(user_id, whose_id, judge(deployed, packed, policy))[1]


def _said(plpy: Any, memory: dict[Any, Any], answer: Answer, top: int | None) -> list[Line]:
    """The rows; none, and a notice with the reason, for a user without a score."""
    deployed, packed, reason = answer
    if packed is None or reason is not None:
        plpy.notice(f"no score to explain: {reason}")
        return []
    return _lines(plpy, memory, deployed, packed, top)


def _lines(plpy: Any, memory: dict[Any, Any], deployed: Deployed, packed: bytes, top: int | None) -> list[Line]:
    kept = _kept(plpy, memory, deployed)
    if kept.explainer is not None:
        base = kept.explainer.base
        raw, contributions = kept.explainer.contributions(packed, lambda: touch(plpy, memory))
    else:
        from ubp_sql.api.explain_other import contributions as of_any_model

        base, contributions = of_any_model(plpy, memory, deployed, packed)
        raw = fsum((base, *contributions))
    typical = typical_of(plpy, memory, deployed.model_id)
    return tell(kept, array("f", packed), typical, raw, base, contributions, top or 1)


def _kept(plpy: Any, memory: dict[str, Any], deployed: Deployed) -> Kept:
    kept: Kept | None = deployed.reasons
    if kept is None:
        kept = deployed.reasons = Kept(plpy, memory, deployed)
    return kept


class Kept(Told):
    """What a session keeps of a deployed version for its reasons.

    explainer  None where its trees do not give exact reasons, or it has none
    """

    explainer: Explainer | None

    def __init__(self, plpy: Any, memory: dict[Any, Any], deployed: Deployed) -> None:
        row = run(plpy, memory, OF_MODEL, ["bigint"], [deployed.model_id])[0]
        loaded = deployed.loaded
        if isinstance(loaded, TreeModel):
            link, parameter = loaded.blob.link, loaded.blob.link_parameter
            score = lambda raw: link_totals([raw], link, parameter)[0]  # noqa: E731
        else:
            prepare_numba()
            from ubp_sql.models.raw import score_of

            score = score_of(loaded)
        super().__init__(row["names"], row["meanings"], row["output"] == "chance", score, deployed.value)
        self.explainer = None
        if isinstance(loaded, TreeModel) and row["explainer"] is not None:
            self.explainer = open_explainer(row["explainer"], loaded)
