"""Attributes of users and items: what a feature says of an attribute is what was known at its moment."""

import math
import re
from typing import Any

from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput
from ubp_sql.features.windows import shown

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NUMBER = re.compile(r"[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?")
SUBJECTS, KINDS = ("user", "item"), ("number", "text")
MOST_CHARS = 2_000
OF_USER = """
insert into ubp.events (user_id, event_time, kind, value, attributes)
values ($1, $2, 'attribute:' || $3, $4, case when $5 is not null then jsonb_build_object('text', $5) end)"""
# Set twice in one transaction, the last word counts: nobody has seen the first.
OF_ITEM = """
insert into ubp.item_attributes as a (item_id, valid_from, name, value, text) values ($1, $2, $3, $4, $5)
    on conflict (item_id, name, valid_from, ingested_at) do update set value = excluded.value, text = excluded.text"""
TYPES = ["bigint", "timestamptz", "text", "double precision", "text"]
TYPE_OF = "select a.type from ubp.attributes a where a.of = $1 and a.name = $2"
LOCK_ITEMS = "lock table ubp.item_attributes in share row exclusive mode"
# A value that is not of the type, as ubp.check_item_attributes and ubp.insert_user_attribute have it.
MISFIT = """
   and case $2 when 'number' then a.value is null and a.text is not null
                              and a.text !~ '^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?$'
               else a.text is null and a.value is not null end limit 1"""
ITEM_MISFIT = f"""
select a.item_id as whose, coalesce(a.text, a.value::text) as said from ubp.item_attributes a
 where a.name = $1 {MISFIT}"""  # noqa: S608 - constants only
USER_MISFIT = f"""
select a.user_id as whose, coalesce(a.text, a.value::text) as said
  from (select e.user_id, e.value, e.attributes ->> 'text' as text from ubp.event_rows() e
         where e.kind = 'attribute:' || $1) a
 where true {MISFIT}"""  # noqa: S608 - constants only
DEFINE = """
insert into ubp.attributes as a ("of", name, type, meaning, defined_by)
values ($1, $2, $3, $4, coalesce(nullif(current_setting('role'), 'none'), session_user))
    on conflict ("of", name) do update set type = excluded.type, meaning = excluded.meaning, defined_at = now(),
                                           defined_by = excluded.defined_by
 where (a.type, a.meaning) is distinct from (excluded.type, excluded.meaning)"""


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
    arguments = _checked(plpy, memory, "user", user_id, name, value, since)
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
    run(plpy, memory, OF_ITEM, TYPES, _checked(plpy, memory, "item", item_id, name, value, since))


@entry
def define_attribute(
    plpy: Any, memory: dict[str, Any], of: str | None, name: str | None, kind: str | None, meaning: str | None
) -> None:
    """Declares the type of an attribute of users or items; refused where there are values that are not of it."""
    check_version(plpy, memory)
    if of not in SUBJECTS:
        raise BadInput(f"an attribute of {shown(of)}", "attributes are of a user or of an item: 'user', 'item'")
    _check_name(name)
    if kind not in KINDS:
        raise BadInput(f"attribute {name!r} is declared as {shown(kind)}", "'number' or 'text'; yes and no are 1 and 0")
    if meaning is not None and len(meaning) > MOST_CHARS:
        raise BadInput(f"the meaning of {name!r} has {len(meaning)} characters", f"at most {MOST_CHARS}")
    if of == "item":
        run(plpy, memory, LOCK_ITEMS, [], [])
    other = single(plpy, memory, ITEM_MISFIT if of == "item" else USER_MISFIT, ["text", "text"], [name, kind])
    if other is not None:
        raise BadInput(
            f"attribute {name!r} of {of}s cannot be a {kind}: {of} {other['whose']} has {shown(other['said'])}",
            "an attribute keeps its type: another meaning takes another name",
        )
    run(plpy, memory, DEFINE, ["text"] * 4, [of, name, kind, meaning])


def _check_name(name: str | None) -> None:
    if name is None or not NAME.fullmatch(name):
        raise BadInput(f"{shown(name)} is no name for an attribute", "lower-case letters, digits and _, at most 63")


def _checked(
    plpy: Any,
    memory: dict[str, Any],
    whose: str,
    number: int | None,
    name: str | None,
    value: float | str | None,
    since: str | None,
) -> list[Any]:
    """The arguments of OF_USER and OF_ITEM. Raises BadInput (UB003) on what cannot be."""
    if number is None:
        raise BadInput(
            f"no {whose} was named: the id is NULL, or none has the key",
            f"load its events first; ubp.set_{whose}_attributes takes new keys",
        )
    if since is None:
        raise BadInput("the time is NULL", "when the value began to hold")
    _check_name(name)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise BadInput(f"attribute {name!r} has no value", "a finite number or a text; what was set before stays known")
    text = value if isinstance(value, str) else None
    if text is not None and len(text) > MOST_CHARS:
        raise BadInput(f"attribute {name!r} has a text of {len(text)} characters", f"at most {MOST_CHARS}")
    read = float(value) if text is None or NUMBER.fullmatch(text.strip()) else math.nan
    declared = single(plpy, memory, TYPE_OF, ["text", "text"], [whose, name])
    fits = {"text": text is not None, "number": math.isfinite(read)}
    if declared is not None and not fits[declared["type"]]:
        raise BadInput(
            f"attribute {name!r} of {whose}s is a {declared['type']}, and {shown(value)} is none",
            "ubp.attributes says what each is; another meaning takes another name",
        )
    return [number, since, name, read if math.isfinite(read) else None, text]
