"""Attributes of users as events: what a feature says of an attribute is what was known at its moment."""

import math
import re
from typing import Any

from ubp_sql.api.session import check_version, entry, run
from ubp_sql.errors import BadInput
from ubp_sql.features.windows import shown

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NUMBER = re.compile(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?")
MOST_CHARS = 2_000
SET = """
insert into ubp.events (user_id, event_time, kind, value, attributes)
values ($1, $2, 'attribute:' || $3, $4, case when $5 is not null then jsonb_build_object('text', $5) end)"""


@entry
def set_user_attribute(
    plpy: Any,
    memory: dict[str, Any],
    user_id: int | None,
    name: str | None,
    value: float | str | None,
    since: str | None,
) -> None:
    """One event of kind attribute:<name>; a text that reads as a number has that value too."""
    check_version(plpy, memory)
    if user_id is None or since is None:
        raise BadInput("the user or the time is NULL", "a known user, and when the value began to hold")
    if name is None or not NAME.fullmatch(name):
        raise BadInput(f"{shown(name)} is no name for an attribute", "lower-case letters, digits and _, at most 63")
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise BadInput(f"attribute {name!r} has no value", "a finite number or a text; what was set before stays known")
    text = value if isinstance(value, str) else None
    if text is not None and len(text) > MOST_CHARS:
        raise BadInput(f"attribute {name!r} has a text of {len(text)} characters", f"at most {MOST_CHARS}")
    number = float(value) if text is None or NUMBER.fullmatch(text.strip()) else math.nan
    types = ["bigint", "timestamptz", "text", "double precision", "text"]
    run(plpy, memory, SET, types, [user_id, since, name, number if math.isfinite(number) else None, text])
