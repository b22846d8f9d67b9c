"""The changes of a question "what if": features of other values, events that never happened, another moment.

`changes` is a JSON object: names of features to numbers or null, "events" to a list of objects, "as_of" to a time.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import namedtuple

from ubp_sql.api.hypothetical import MOST
from ubp_sql.api.json_text import value_of
from ubp_sql.errors import BadInput, NotReady
from ubp_sql.features.suggest import meant
from ubp_sql.features.windows import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Moment = Callable[[str, str], int]  # text of a time and what it is the time of, to microseconds since 1970 UTC

F32_MAX = 3.4028234663852886e38
EXAMPLE = """for example '{"days_since_purchase": 3}' or '{"events": [{"kind": "purchase"}]}'"""
FIELDS = ("kind", "event_time", "item_id", "value", "quantity", "duration_s", "attributes", "source")
RAW = ("item_id", "attributes", "source")
"""Fields that meet the keys of the user's own events: what they change says which of those there are."""
NUMBERS = {"value": math.inf, "quantity": F32_MAX, "duration_s": F32_MAX}
WHOLE = {"item_id": 1 << 63, "source": 1 << 31}


class Changes(namedtuple("Changes", ("features", "events", "as_of"))):
    """
    features  name to a finite number, NaN for null
    events    the objects of "events", each of known fields
    as_of     text of a time, or None
    """

    __slots__ = ()


def parsed(text: str | None) -> Changes:
    """The changes of their JSON text. Raises BadInput (UB003) on everything else."""
    found = value_of(text, "changes", EXAMPLE, "a feature is a float32")
    if not isinstance(found, dict):
        raise BadInput(f"changes is {shown(found)}, not an object", EXAMPLE)
    events: list[dict[str, Any]] = []
    if isinstance(found.get("events"), list | dict):  # else the name of a feature
        events = _events(found.pop("events"))
    as_of = None
    if "as_of" in found:
        as_of = found.pop("as_of")
        if not isinstance(as_of, str):
            raise BadInput(
                f"as_of is {shown(as_of)}, not a time in quotes", """for example '{"as_of": "2011-11-09"}'"""
            )
    features = {name: _number(value, name) for name, value in found.items()}
    if not (features or events or as_of is not None):
        raise BadInput("changes says nothing that should be different", EXAMPLE)
    return Changes(features, events, as_of)


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = meant(name, ("events", "as_of")) or "a feature is a number, without quotes, or null"
        raise BadInput(f"{shown(name)} is {shown(value)}, not a number or null", hint)
    return _held(value, shown(name), F32_MAX)


def _held(value: int | float, name: str, most: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # Half a step beyond the largest float32 rounds to infinity, as float() itself does for its own.
    if not math.isfinite(number) or (most < math.inf and math.isinf(array("f", [number])[0])):
        raise BadInput(f"{name} is {shown(value)}", f"a finite number, up to {min(most, 1.7976931348623157e308):.8g}")
    return number


def _events(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list):
        raise BadInput("events is an object, not a list of objects", """for example '{"events": [{"kind": "view"}]}'""")
    if len(found) > MOST:
        raise BadInput(f"{len(found)} events, more than {MOST}", f"ask about {MOST} at a time")
    return [_event(event, f"event {place}") for place, event in enumerate(found, 1)]


def _event(event: Any, which: str) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise BadInput(f"{which} is {shown(event)}, not an object", """for example {"kind": "view"}""")
    for name, value in event.items():
        if name not in FIELDS:
            hint = meant(name, FIELDS) or f"an event has {', '.join(FIELDS)}; more of it is in its attributes"
            raise BadInput(f"{which}: there is no field {shown(name)}", hint)
        if value is not None:
            _check_field(name, value, f"{which}: {name}")
    if event.get("kind") is None:
        raise BadInput(f"{which} has no kind", """for example {"kind": "view"}""")
    return {name: value for name, value in event.items() if value is not None}


def _check_field(name: str, value: Any, what: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in NUMBERS:
        if not number:
            raise BadInput(f"{what} is {shown(value)}, not a number", "numbers stand without quotes")
        _held(value, what, NUMBERS[name])
    elif name in WHOLE:
        if not number or not isinstance(value, int) or not -WHOLE[name] <= value < WHOLE[name]:
            hint = "ubp.resolve_item gives the number of an item's key" if name == "item_id" else "0 is a plain INSERT"
            raise BadInput(f"{what} is {shown(value)}, not a whole number in range", hint)
    elif name == "attributes":
        if not isinstance(value, dict):
            raise BadInput(f"{what} is {shown(value)}, not an object", """for example {"channel": "e-mail"}""")
    elif not isinstance(value, str):
        raise BadInput(f"{what} is {shown(value)}, not text", "texts and times stand in quotes")


def positions(features: dict[str, float], names: Sequence[str]) -> dict[int, float]:
    """By place in the row. Raises BadInput (UB003) on a feature that the set does not have."""
    places = {name: place for place, name in enumerate(names)}
    for name in features:
        if name not in places:
            raise unknown_feature(name, names)
    return {places[name]: value for name, value in features.items()}


def unknown_feature(name: str, names: Sequence[str]) -> BadInput:
    """The error about a feature that a set does not have."""
    close = meant(name, names)
    return BadInput(
        f"the task's features have no {shown(name)}", f"{close} ubp.feature_catalogue lists the features".strip()
    )


def dated(events: list[dict[str, Any]], kinds: Sequence[str], as_of_us: int | None, moment: Moment) -> str:
    """The events as hypothetical.RELATION takes them; one without a time happens in the last microsecond before as_of.

    kinds     those that some feature looks at
    as_of_us  the moment that is asked about; None: the set was never refreshed

    Raises BadInput (UB003) on a kind that is none of them, and on an event that is not before as_of.
    """
    if as_of_us is None:
        raise NotReady(
            "the features speak of no moment yet", """run ubp.refresh_features(), or name one: {"as_of": "..."}"""
        )
    rows = []
    for place, event in enumerate(events, 1):
        if event["kind"] not in kinds:
            close = meant(event["kind"], kinds)
            raise BadInput(
                f"event {place}: no feature of the task looks at {shown(event['kind'])}",
                f"{close} the kinds are {', '.join(sorted(kinds)[:20])}".strip(),
            )
        time = event.get("event_time")
        us = as_of_us - 1 if time is None else moment(time, f"event {place}: event_time")
        if us >= as_of_us:
            raise BadInput(
                f"event {place}: {shown(time)} is not before the moment that is asked about",
                'ask about a later moment, {"as_of": "...", "events": [...]}, or leave event_time out: just before it',
            )
        rest = {name: value for name, value in event.items() if name != "event_time"}
        for name in ("quantity", "duration_s"):
            if name in rest:
                rest[name] = array("f", [rest[name]])[0]
        rows.append({**rest, "place": place - 1, "us": us})
    return json.dumps(rows)
