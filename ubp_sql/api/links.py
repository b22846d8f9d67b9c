"""Users of several keys: links between keys are rows, and whose a user id is follows from the links that hold.

Links of a user form a tree: one between keys of one user already is refused. Read in the order in which they were made,
each makes the user of its other key the user of its first; without one of them that gives what would be had it never
been made, which is how it is undone.
"""

from collections.abc import Iterable
from typing import Any

from ubp_sql.api.patience import refuse_old_snapshot
from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput, UbpError
from ubp_sql.features.windows import shown

# Two links at once, each of which is fine by itself, could make a circle.
LOCK = "select pg_advisory_xact_lock(hashtextextended('ubp.user_links', 0))"
ISOLATION = "a link needs a transaction at READ COMMITTED: an older snapshot hides what others have linked meanwhile"
# OFFSET keeps the planner from writing the call in place of each of its uses.
KNOWN = """
select k.user_id, coalesce(m.user_id, k.user_id) as whose
  from (select ubp.resolve_member($1) as user_id offset 0) k
  left join ubp.user_members m on m.member_id = k.user_id
 where k.user_id is not null
   and (m.user_id is not null
        or exists (select from ubp.users u where u.user_id = k.user_id)
        or exists (select from ubp.event_rows() e where e.user_id = k.user_id))"""
HELD = """
select l.link_id from ubp.user_links l where l.unlinked_at is null and l.first_id = $1 and l.other_id = $2"""
NEW = """
insert into ubp.user_links (user_key, other_key, first_id, other_id, linked_by)
values (btrim($1), btrim($2), $3, $4, coalesce(nullif(current_setting('role'), 'none'), session_user))"""
UNDO = """
update ubp.user_links set unlinked_at = now(),
       unlinked_by = coalesce(nullif(current_setting('role'), 'none'), session_user)
 where link_id = $1"""
ANY = "select exists (select from ubp.user_members) as found"
JOIN = """
with theirs as (update ubp.user_members set user_id = $1 where user_id = $2 returning member_id),
     own as (insert into ubp.user_members (member_id, user_id) values ($2, $1))
insert into ubp.event_log (op, users) select 'U', array[$1, $2] || array(select t.member_id from theirs t)"""
# The links of everybody whom a chain of them leads to from a user.
OF_GROUP = """
with recursive them (user_id) as (
  values ($1)
   union
  select l.user_id from them t cross join lateral (
    select a.other_id from ubp.user_links a where a.first_id = t.user_id and a.unlinked_at is null
     union all
    select b.first_id from ubp.user_links b where b.other_id = t.user_id and b.unlinked_at is null) l (user_id))
select l.link_id, l.user_key, l.other_key, l.first_id, l.other_id
  from them t join ubp.user_links l on l.first_id = t.user_id and l.unlinked_at is null order by l.link_id"""
FORGET = "delete from ubp.user_members where member_id = any ($1)"
WRITE = """
insert into ubp.user_members (member_id, user_id)
select u.member_id, u.user_id from unnest($1, $2) as u (member_id, user_id)"""
LOG = "insert into ubp.event_log (op, users) values ('U', $1)"
MOST_SHOWN = 5


@entry
def link_users(plpy: Any, memory: dict[str, Any], user_key: str | None, other_key: str | None) -> int:
    """Makes the user of `other_key`, with all that was linked to it, the user of `user_key`, whose id it returns.

    The same link again changes nothing. Raises BadInput (UB003) on a key that nobody has, and where both are one user.
    """
    _begin(plpy, memory)
    (first, stays), (other, goes) = (_known(plpy, memory, key) for key in (user_key, other_key))
    if first == other:
        raise BadInput(f"{shown(user_key)} and {shown(other_key)} are the same key", "a link takes two")
    if single(plpy, memory, HELD, ["bigint", "bigint"], [first, other]) is not None:
        return stays
    if stays == goes:
        raise BadInput(
            f"{shown(user_key)} and {shown(other_key)} are one user already, {stays}: this link would close a circle",
            "ubp.user_links has the links; where unlinked_at is null they hold",
        )
    before = _any(plpy, memory)
    run(plpy, memory, NEW, ["text", "text", "bigint", "bigint"], [user_key, other_key, first, other])
    run(plpy, memory, JOIN, ["bigint", "bigint"], [stays, goes])
    _heard(plpy, memory, before)
    return stays


@entry
def unlink_users(plpy: Any, memory: dict[str, Any], user_key: str | None, other_key: str | None) -> int:
    """Undoes the link between two keys, as if it had never been made; returns whose `other_key` is then.

    Raises BadInput (UB003) where there is none.
    """
    _begin(plpy, memory)
    (first, _), (other, _) = (_known(plpy, memory, key) for key in (user_key, other_key))
    links = run(plpy, memory, OF_GROUP, ["bigint"], [first])
    gone = [link["link_id"] for link in links if {link["first_id"], link["other_id"]} == {first, other}]
    if not gone or first == other:
        raise _no_link(user_key, other_key, links)
    before = _any(plpy, memory)
    run(plpy, memory, UNDO, ["bigint"], [gone[0]])
    edges = [(link["first_id"], link["other_id"]) for link in links]
    users = sorted({user for edge in edges for user in edge})
    left = members(edge for edge, link in zip(edges, links, strict=True) if link["link_id"] != gone[0])
    run(plpy, memory, FORGET, ["bigint[]"], [users])
    run(plpy, memory, WRITE, ["bigint[]", "bigint[]"], [list(left), list(left.values())])
    run(plpy, memory, LOG, ["bigint[]"], [users])
    _heard(plpy, memory, before)
    return left.get(other, other)


def members(links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Member to user by links (first, other) in the order in which they were made."""
    groups: dict[int, list[int]] = {}  # by user, who comes first
    whose: dict[int, int] = {}
    for first, other in links:
        stays, goes = whose.get(first, first), whose.get(other, other)
        joined = groups.pop(goes, [goes])
        groups.setdefault(stays, [stays]).extend(joined)
        whose.update(dict.fromkeys(joined, stays))
    return whose


def _begin(plpy: Any, memory: dict[str, Any]) -> None:
    check_version(plpy, memory)
    refuse_old_snapshot(plpy, memory, ISOLATION)
    run(plpy, memory, LOCK, [], [])


def _known(plpy: Any, memory: dict[str, Any], key: str | None) -> tuple[int, int]:
    """(id that the key has by itself, whose that is). Raises BadInput (UB003) for a key that nobody has."""
    if key is None:
        raise BadInput("a key is NULL", "a link is between two keys that users have in their sources")
    row = single(plpy, memory, KNOWN, ["text"], [key])
    if row is None:
        raise BadInput(
            f"no user has the key {shown(key)}",
            "load its events first; text keys of attached tables are known from the next refresh on",
        )
    return row["user_id"], row["whose"]


def _any(plpy: Any, memory: dict[str, Any]) -> bool:
    return bool(run(plpy, memory, ANY, [], [])[0]["found"])


def _heard(plpy: Any, memory: dict[str, Any], before: bool) -> None:
    """Sees to it that events are read with the links that hold: their query is another one where there are none."""
    if _any(plpy, memory) != before:
        from ubp_sql.api.event_rows import rebuild_event_rows

        rebuild_event_rows(plpy, memory)


def _no_link(user_key: str | None, other_key: str | None, links: Any) -> UbpError:
    there = [f"{link['user_key']!r} with {link['other_key']!r}" for link in links]
    more = ", ..." if len(there) > MOST_SHOWN else ""
    return BadInput(
        f"there is no link between {shown(user_key)} and {shown(other_key)}",
        f"linked are {', '.join(there[:MOST_SHOWN])}{more}" if there else f"{shown(user_key)} is linked with nobody",
    )
