"""Whose a user id is, where ubp.link_users made it another user's. Asked only where nothing was found of the id itself.

Between a link and the next refresh a member has the stored row that it had: stored answers change by refreshes alone.
"""

from __future__ import annotations

from ubp_sql.api.session import run, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHOSE = "select m.user_id from ubp.user_members m where m.member_id = $1"
WHOSE_THESE = "select m.member_id, m.user_id from ubp.user_members m where m.member_id = any ($1)"


def whose(plpy: Any, memory: dict[Any, Any], user_id: int | None) -> int | None:
    """The user that the id was linked to; None for one that is nobody else's."""
    if user_id is None:
        return None
    row = single(plpy, memory, WHOSE, ["bigint"], [user_id])
    return None if row is None else row["user_id"]


def whose_these(plpy: Any, memory: dict[Any, Any], user_ids: list[int]) -> dict[int, int]:
    """Member to user of those ids that were linked to another."""
    if not user_ids:
        return {}
    rows = run(plpy, memory, WHOSE_THESE, ["bigint[]"], [user_ids])
    return {row["member_id"]: row["user_id"] for row in rows}
