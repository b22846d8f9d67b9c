"""Attributes of users and items: what a feature says of an attribute is what was known at its moment."""

import math
import re
from typing import Any

from ubp_sql.api.session import check_version, entry, run
from ubp_sql.errors import BadInput
from ubp_sql.features.windows import shown

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NUMBER = re.compile(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?")
MOST_CHARS = 2_000
OF_USER = """
insert into ubp.events (user_id, event_time, kind, value, attributes)
values ($1, $2, 'attribute:' || $3, $4, case when $5 is not null then jsonb_build_object('text', $5) end)"""
# Set twice in one transaction, the last word counts: nobody has seen the first.
OF_ITEM = """
insert into ubp.item_attributes as a (item_id, valid_from, name, value, text) values ($1, $2, $3, $4, $5)
    on conflict (item_id, name, valid_from, ingested_at) do update set value = excluded.value, text = excluded.text"""
TYPES = ["bigint", "timestamptz", "text", "double precision", "text"]


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
    arguments = _checked("user", user_id, name, value, since)
    if since in ("infinity", "-infinity"):
        raise BadInput(f"the time is {since}", "an attribute of a user is an event, which has a finite time")
    run(plpy, memory, OF_USER, TYPES, arguments)


@entry
def set_item_attribute(
    plpy: Any,
    memory: dict[str, Any],
    item_id: int | None,
    name: str | None,
    value: float | str | None,
    since: str | None,
) -> None:
    """One row of ubp.item_attributes; a text that reads as a number has that value too."""
    check_version(plpy, memory)
    run(plpy, memory, OF_ITEM, TYPES, _checked("item", item_id, name, value, since))


def _checked(
    whose: str, number: int | None, name: str | None, value: float | str | None, since: str | None
) -> list[Any]:
    """The arguments of OF_USER and OF_ITEM. Raises BadInput (UB003) on what cannot be."""
    if number is None or since is None:
        raise BadInput(f"the {whose} or the time is NULL", f"a known {whose}, and when the value began to hold")
    if name is None or not NAME.fullmatch(name):
        raise BadInput(f"{shown(name)} is no name for an attribute", "lower-case letters, digits and _, at most 63")
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise BadInput(f"attribute {name!r} has no value", "a finite number or a text; what was set before stays known")
    text = value if isinstance(value, str) else None
    if text is not None and len(text) > MOST_CHARS:
        raise BadInput(f"attribute {name!r} has a text of {len(text)} characters", f"at most {MOST_CHARS}")
    read = float(value) if text is None or NUMBER.fullmatch(text.strip()) else math.nan
    return [number, since, name, read if math.isfinite(read) else None, text]
