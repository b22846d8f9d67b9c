"""What a model would say of a user if features had other values, if events had happened, or at another moment."""

from __future__ import annotations

import json
import math
from array import array
from collections import namedtuple

from ubp_sql.api.live import live_bytes
from ubp_sql.api.live_set import live_set
from ubp_sql.api.members import whose
from ubp_sql.api.moments import moment_us
from ubp_sql.api.predict import DETAIL, of_whom
from ubp_sql.api.serving import (
    OTHER_LENGTH,
    Deployed,
    Policy,
    answering,
    judge,
    known_deployment,
    no_deployment,
    policy_of,
)
from ubp_sql.api.session import Row, entry, run, single, sqlstate
from ubp_sql.api.what_if_changes import RAW, Changes, dated, parsed, positions
from ubp_sql.errors import BadInput, FeatureSetMismatch, InstallError
from ubp_sql.features.windows import shown
from ubp_sql.models.reasons import shortest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AS_OF = """
select s.as_of, (extract(epoch from s.as_of) * 1000000)::bigint as us
  from ubp.feature_sets s where s.feature_set_id = $1"""
NAMES = (
    "select array_agg(d.name order by d.position) as names from ubp.feature_definitions d where d.feature_set_id = $1"
)
# Of the outer role: inside a SECURITY DEFINER function current_user is ours.
MAY_READ_EVENTS = """
select has_function_privilege(coalesce(nullif(current_setting('role'), 'none'), session_user),
                              'ubp.explain_events(text, bigint, text, integer)', 'execute') as may"""
# An id that nobody has: no identity column and no key begins there.
UNKNOWN = -(1 << 63)
UNKNOWN_SOURCES = """
select min(a.id) as id from unnest($1) a (id) where not exists (select from ubp.sources s where s.source_id = a.id)"""


class Answer(namedtuple("Answer", ("deployed", "user_id", "whose_id", "as_of", "before", "after", "policies"))):
    """
    deployed  who answers
    user_id   for whom
    whose_id  whose that id is: of one that was linked, the user that it was linked to
    as_of     the moment of `after`
    before    the features as predict() takes them, packed; None where there are none
    after     the same with the changes
    policies  when the task abstains, of each
    """

    __slots__ = ()


@entry
def predict_if(plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, changes: str | None) -> float | None:
    """The value of predict() if the changes held; None where predict() would have none. A NULL user has no events."""
    answer = _answer(plpy, memory, task, user_id, changes)
    return judge(answer.deployed, answer.after, answer.policies[1])[0]


@entry
def predict_if_detail(
    plpy: Any, memory: dict[Any, Any], task: str, user_id: int | None, changes: str | None
) -> list[Row]:
    """The same with the reason where there is none, the value as it is, and each feature that differs."""
    answer = _answer(plpy, memory, task, user_id, changes)
    verdict = judge(answer.deployed, answer.after, answer.policies[1])
    score, reason = of_whom(answer.user_id, answer.whose_id, verdict)
    before = judge(answer.deployed, answer.before, answer.policies[0])[0]
    names = _names(plpy, memory, answer.deployed.feature_set_id)
    detail = {
        "score": score,
        "reason": reason,
        "before": before,
        "change": None if score is None or before is None else score - before,
        "features": json.dumps(_differing(names, answer.before, answer.after)),
        "version": answer.deployed.version,
        "as_of": answer.as_of,
    }
    return [detail]


def _answer(plpy: Any, memory: dict[Any, Any], task: str, asked_id: int | None, text: str | None) -> Answer:
    changes = parsed(text)
    _refuse_raw_keys(plpy, memory, changes)
    user_id = asked_id = UNKNOWN if asked_id is None else asked_id
    row = single(plpy, memory, DETAIL, ["text", "bigint"], [task, user_id])
    if row is None:
        raise no_deployment(plpy, memory, task)
    live = bool(changes.events) or changes.as_of is not None
    if live or row["packed"] is None:
        linked_to = whose(plpy, memory, user_id)
        if linked_to is not None:
            row, user_id = run(plpy, memory, DETAIL, ["text", "bigint"], [task, linked_to])[0], linked_to
    champion = known_deployment(plpy, memory, row["deployment_id"])
    as_of = row["as_of"]
    deployed, before = answering(plpy, memory, champion, user_id, row)
    policy = policy_of(plpy, memory, deployed, row["abstains"])
    if live or deployed.feature_set_id != champion.feature_set_id:
        moment = run(plpy, memory, AS_OF, ["integer"], [deployed.feature_set_id])[0]
        as_of = moment["as_of"] if changes.as_of is None else changes.as_of
    after = before
    if live:
        us = moment["us"] if changes.as_of is None else _moment_us(plpy, memory, changes.as_of, "as_of")
        after = _computed(plpy, memory, deployed, user_id, changes, as_of, us)
    after = _with_features(plpy, memory, deployed, after, changes.features)
    policies = policy, policy
    if changes.as_of is not None and policy is not None:  # a moment that is named is of no age
        policies = policy, Policy(policy.least_events, None)
    return Answer(deployed, asked_id, user_id, as_of, before, after, policies)


def _refuse_raw_keys(plpy: Any, memory: dict[Any, Any], changes: Changes) -> None:
    """Raises InstallError (UB011) where events would be compared with raw ones for somebody who may not read those."""
    used = [name for name in RAW if any(name in event for event in changes.events)]
    if used and not run(plpy, memory, MAY_READ_EVENTS, [], [])[0]["may"]:
        raise InstallError(
            f"hypothetical events with {', '.join(used)} are for those who may read raw events",
            "leave it out, or ask as ubp_auditor: what it changes tells which items, orders and attributes a user had",
        )


def _computed(
    plpy: Any,
    memory: dict[Any, Any],
    deployed: Deployed,
    user_id: int,
    changes: Changes,
    as_of: str | None,
    as_of_us: int | None,
) -> bytes | None:
    """The features out of the user's events and those of the changes at a moment."""
    if not changes.events:
        return live_bytes(plpy, memory, deployed.feature_set_id, user_id, as_of)
    kinds = live_set(plpy, memory, deployed.feature_set_id).plan.kinds
    events = dated(changes.events, kinds, as_of_us, lambda text, what: _moment_us(plpy, memory, text, what))
    sources = [event["source"] for event in changes.events if "source" in event]
    if sources:
        unknown = run(plpy, memory, UNKNOWN_SOURCES, ["integer[]"], [sources])[0]["id"]
        if unknown is not None:
            raise BadInput(f"there is no source {unknown}", "0 is a plain INSERT, on UTC's clock")
    return live_bytes(plpy, memory, deployed.feature_set_id, user_id, as_of, events)


def _moment_us(plpy: Any, memory: dict[Any, Any], text: str, what: str) -> int:
    try:
        return moment_us(plpy, memory, text, "UTC", what)[0]
    except plpy.SPIError as error:
        if not sqlstate(error).startswith("22"):  # a cancel, say
            raise
        raise BadInput(f"{what} is {shown(text)}, no time", "for example '2011-11-09 00:00+00'") from None


def _with_features(
    plpy: Any, memory: dict[Any, Any], deployed: Deployed, packed: bytes | None, features: dict[str, float]
) -> bytes | None:
    if not features:
        return packed
    places = positions(features, _names(plpy, memory, deployed.feature_set_id))
    if packed is None:
        return None
    if len(packed) != deployed.loaded.size:
        raise FeatureSetMismatch(*OTHER_LENGTH)
    row = array("f", packed)
    for place, value in places.items():
        row[place] = value
    return row.tobytes()


def _names(plpy: Any, memory: dict[Any, Any], feature_set_id: int) -> list[str]:
    names: list[str] = run(plpy, memory, NAMES, ["integer"], [feature_set_id])[0]["names"]
    return names


def _differing(names: list[str], before: bytes | None, after: bytes | None) -> dict[str, list[float | None]]:
    """Name to [before, after] of each feature that differs; null for no value, and for all of a user without a row."""
    empty = (math.nan,) * len(names)
    old = empty if before is None else array("f", before)
    new = empty if after is None else array("f", after)
    return {
        name: [shortest(one), shortest(other)]
        for name, one, other in zip(names, old, new, strict=True)
        if not (one == other or (one != one and other != other))
    }
