"""Whom the next fold will find changed: what waits in the event log, and rows that no trigger saw."""

from collections.abc import Iterable
from typing import Any

from ubp_sql.api import mirror_sources as attached
from ubp_sql.api.event_rows import Origin, origins, query_origin
from ubp_sql.api.heap import OF_IDS
from ubp_sql.api.mirror_fold import Said
from ubp_sql.api.session import sent_ids
from ubp_sql.api.source_rows import Where

AMONG = OF_IDS._replace(users="{user} = any ($5)", array="$5")


def pending_users(plpy: Any, memory: dict[str, Any], said: Said, among: Iterable[int] | None = None) -> set[int]:
    """Users with an id whose events are new or changed; of some users, those."""
    everywhere = {origin.number: origin for origin in origins(plpy, memory)}
    some = None if among is None else list(among)
    found = set(said.users if some is None else set(said.users).intersection(some))
    for part in said.ranges:
        if part.origin in everywhere:
            found |= _users(plpy, memory, everywhere[part.origin], OF_IDS, AMONG, list(part[:4]), some)
    for mark in attached.marks(plpy, memory, list(everywhere.values())):
        where = mark.where
        one = where._replace(users="{user} = any ($3)", array="$3")
        low = mark.origin.attached.watermark_at
        found |= _users(plpy, memory, mark.origin, where, one, [mark.low if low is None else low, mark.high], some)
    return found


def _users(
    plpy: Any,
    memory: dict[str, Any],
    origin: Origin,
    where: Where,
    one: Where,
    arguments: list[Any],
    among: list[int] | None,
) -> set[int]:
    types = ["bigint"] * len(arguments)
    if among is not None:
        where, types, arguments = one, [*types, "bigint[]"], [*arguments, among]
    return set(sent_ids(query_origin(plpy, memory, attached.USERS, origin, where, types, arguments)[0]["users"]))
