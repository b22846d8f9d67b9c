"""Events that a call makes up, read with a user's own as if they had just been inserted into ubp.events.

They go through the query that reads rows, so their attributes, items and clocks mean what those of stored events do.
"""

from __future__ import annotations

from ubp_sql.api.heap import LISTED, MOMENT, declared_columns, read_rows, rows_query
from ubp_sql.api.session import Row, run
from ubp_sql.api.source_rows import Where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ubp_sql.api.live_set import LiveSet
    from ubp_sql.features.columns import Declared
    from ubp_sql.mirror.layout import Block

MOST = 1_000
# After every event of ubp.events and before those of attached relations: where a row that is inserted now would stand.
FIRST_ID = (1 << 48) - MOST
# $3: a JSON array of objects with these fields, `us` the event time in microseconds since 1970 UTC.
RELATION = f"""(
    select {FIRST_ID} + m.place as event_id, $2 as user_id, m.event_time, m.kind, m.item_id, m.value, m.quantity,
           m.duration_s, m.attributes, m.event_time as ingested_at, coalesce(m.source, 0) as source
      from (select j.*, {MOMENT.format(us="j.us")} as event_time
              from jsonb_to_recordset($3) as j (place bigint, us bigint, kind text, item_id bigint,
                     value double precision, quantity real, duration_s real, attributes jsonb, source integer)) m)"""  # noqa: S608 - constants only
TYPES = ["text[]", "bigint", "jsonb"]


def sent_rows(plpy: Any, memory: dict[Any, Any], found: LiveSet, user_id: int, events: str) -> list[Row]:
    """The events as a row of heap.HEAD, for the native library; none where the set looks at none of their kinds."""
    names = {column.name for column in found.columns}
    declared = [column for column in declared_columns(plpy, memory) if column.name in names]
    query = rows_query(plpy, LISTED, Where(), declared, relation=RELATION)
    rows = run(plpy, memory, query, TYPES, [list(found.plan.kinds), user_id, events])
    return [row for row in rows if row["user_id"] is not None]


def block_of(
    plpy: Any, memory: dict[str, Any], kinds: Sequence[str], declared: list[Declared], user_id: int, events: str
) -> Block | None:
    """The events as a block with the kinds' places; None where there is none of these kinds."""
    query = rows_query(plpy, LISTED, Where(), declared, relation=RELATION)
    block = read_rows(plpy, memory, query, TYPES, [list(kinds), user_id, events], declared).block
    if block is not None:
        block.columns["kind"] -= 1  # the server counts places from 1
    return block
