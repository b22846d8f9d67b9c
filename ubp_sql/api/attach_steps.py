"""What attaching does, statement by statement: the same list is executed, and shown by a dry run."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ubp_sql.api.attach_compile import Compiled, Expression
from ubp_sql.api.attach_relation import KINDS, MISSING, Relation, tree
from ubp_sql.api.attach_triggers import STATEMENTS, functions, trigger_statements
from ubp_sql.api.session import Row, run, single

NAMESPACE = "select relnamespace::bigint as oid from pg_class where oid = $1::oid"
DEAF = """
select r.rolname::text as role from pg_roles r
 where r.rolname = 'ubp_listener' and not has_schema_privilege(r.oid, $1::oid, 'usage')"""
# Indexes by the text of their first column or expression.
INDEXED = """
select exists (select from pg_index i
                where i.indrelid = $1::oid and i.indisvalid and i.indpred is null and (i.indisunique or not $3)
                  and translate(pg_get_indexdef(i.indexrelid, 1, false), '() ', '') = translate($2, '() ', ''))
         as found"""


class Step(NamedTuple):
    """One row of what attach_source returns. `by`: caller or owner runs `detail` as it stands; none: nobody does."""

    step: str
    object: str
    detail: str
    lock: str = ""
    by: str = ""

    def row(self) -> Row:
        return {name: value or None for name, value in zip(self._fields[:4], self[:4], strict=True)}


def missing_grants(plpy: Any, memory: dict[str, Any], relation: Relation, of: Compiled) -> dict[str, list[str]]:
    """Which of our roles lack usage of the schema, and select on the relation."""
    number = (single(plpy, memory, NAMESPACE, ["bigint"], [relation.oid]) or {})["oid"]
    rows = run(plpy, memory, MISSING, ["bigint", "bigint"], [number, relation.oid])
    schema = [row["role"] for row in rows if row["of_schema"]]
    # What a trigger evaluates may name a type or a function of the relation's schema.
    if relation.watched and f"{relation.schema}." in of.user.text:
        schema += [row["role"] for row in run(plpy, memory, DEAF, ["bigint"], [number])]
    return {
        "schema": schema,
        "relation": [row["role"] for row in rows if row["of_relation"]],
    }


def lock_step(relation: Relation) -> Iterator[Step]:
    """First of all: who writes now is waited for, and what is written later is heard."""
    if relation.watched:
        waits = f"share row exclusive on {relation.name}: writers wait until the end of the transaction"
        yield Step("lock", relation.name, f"lock table {relation.name} in share row exclusive mode", waits, "caller")


def grant_steps(relation: Relation, missing: dict[str, list[str]]) -> Iterator[Step]:
    """Rights that our roles lack."""
    if missing["schema"]:
        roles = ", ".join(missing["schema"])
        yield Step("grant", relation.schema, f"grant usage on schema {relation.schema} to {roles}", by="caller")
    if missing["relation"]:
        roles = ", ".join(missing["relation"])
        yield Step("grant", relation.name, f"grant select on table {relation.name} to {roles}", by="caller")


def source_step(relation: Relation, of: Compiled) -> Step:
    """The row of ubp.attached_sources, in words."""
    parts = [
        f"user_id: {_shown(of.user)}",
        f"event_time: {of.event_time.text}",
        f"kind: {of.kind.text}",
        f"item_id: {_shown(of.item)}" if of.item else "",
        f"value: {of.value.text}" if of.value else "",
        f"ingested_at: {of.ingested_at.text}" if of.ingested_at else "",
        f"event_id: {_shown(of.event_id)}" if of.event_id else "event_id: none, a hash of the row",
        f"filter: {of.filter.text}" if of.filter else "",
    ]
    said = f"{KINDS[relation.kind]}, hours of {of.time_zone}; " + "; ".join(filter(None, parts))
    return Step("source", relation.source, said, "", "")


def _shown(of: Expression) -> str:
    return f"{of.text} ({of.type})"


def function_steps(plpy: Any, source_id: int, relation: Relation, of: Compiled) -> Iterator[Step]:
    """Functions that the triggers call."""
    if relation.watched:
        for made in functions(source_id, of, plpy.quote_literal):
            yield Step("function", f"ubp.{made.name}()", made.statement, by="owner")


def trigger_steps(plpy: Any, memory: dict[str, Any], source_id: int, relation: Relation) -> Iterator[Step]:
    """Triggers of the relation and of its partitions: a statement fires those of the table it names."""
    if not relation.watched:
        return
    for number, part in enumerate(tree(plpy, memory, relation.oid)):
        # Those of rows come to partitions by themselves.
        events = (*STATEMENTS, "row") if relation.subscribed and number == 0 else STATEMENTS
        for trigger, statement in trigger_statements(source_id, part["name"], events):
            held = f"share row exclusive on {part['name']}"
            yield Step("trigger", f"{trigger} on {part['name']}", statement, held, "caller")


def said_steps(plpy: Any, memory: dict[str, Any], relation: Relation, of: Compiled, given: Row) -> Iterator[Step]:
    """What cannot be seen, and what would help."""
    yield from _unseen(plpy, memory, relation, of)
    yield from _advice(plpy, memory, relation, of, given)


def _unseen(plpy: Any, memory: dict[str, Any], relation: Relation, of: Compiled) -> Iterator[Step]:
    anew = "ubp.rebuild_mirror() reads everything anew"
    if relation.watched:
        off = f"changes while a trigger is off (alter table ... disable trigger): then {anew}"
        yield Step("cannot see", relation.name, off)
        ddl = "alter table ... alter column ... using, which fires no trigger"
        yield Step("cannot see", relation.name, f"values that DDL rewrites ({ddl}): {anew}")
        if relation.kind == "p":
            later = "statements that name a partition made later, before ubp.watch_sources() gave it its triggers"
            yield Step("cannot see", relation.name, later)
    else:
        mark = watermark(relation, of) or ""
        what = {"event_key": f"{of.event_id.text if of.event_id else ''} (event_id)"}.get(mark, mark)
        yield Step("cannot see", relation.name, f"updates and deletes of rows that a refresh has read: {anew}")
        yield Step(
            "cannot see",
            relation.name,
            f"rows that come with a lower {what} than what was read, by more than 10,000 ids or an hour: {anew}",
        )
        yield Step(
            "cannot see", relation.name, "rows since the last refresh: live features know them after the next one"
        )
    if of.ingested_at is None:
        late = "when an event became known: without ingested_at that counts as its time, also of rows that came late"
        yield Step("cannot see", relation.name, late)


def _advice(plpy: Any, memory: dict[str, Any], relation: Relation, of: Compiled, given: Row) -> Iterator[Step]:
    if of.event_id is None:
        yield Step(
            "advice",
            relation.name,
            "without event_id a change of a user has all his events read again; a unique column of integers is best",
        )
    elif relation.watched and not of.ascending and not _found(plpy, memory, relation, of.event_id, unique=True):
        yield Step(
            "advice",
            relation.name,
            f"nothing says that {of.event_id.text} is unique: of rows equal in it, user and time one counts",
        )
    if relation.kind not in ("r", "p", "m"):
        return
    concurrently = "" if relation.kind == "p" else "concurrently "
    for part in (of.event_id, of.user):
        if part is None or (part is of.event_id and part.type == "text"):
            continue
        if not _found(plpy, memory, relation, part):
            column = part.text if part.bare is None else part.bare
            of_column = column if part.bare else f"({column})"
            yield Step(
                "advice", relation.name, f"create index {concurrently}on {relation.name} ({of_column})",
                "" if concurrently else f"share on {relation.name}",
            )  # fmt: skip


def _found(plpy: Any, memory: dict[str, Any], relation: Relation, of: Expression, *, unique: bool = False) -> bool:
    # An index on an integer or a varchar column serves its bigint or text as well.
    texts = {of.text, of.bare or of.text}
    types = ["bigint", "text", "boolean"]
    rows = [single(plpy, memory, INDEXED, types, [relation.oid, text, unique]) for text in texts]
    return any(row and row["found"] for row in rows)


def watermark(relation: Relation, of: Compiled) -> str | None:
    """What tells new rows of a relation that no trigger can watch."""
    if relation.watched:
        return None
    if of.event_id is not None and of.event_id.type == "integer":
        return "event_key"
    return "ingested_at" if of.ingested_at else "event_time"


def execute(plpy: Any, steps: list[Step], by: str, refused: Callable[[Step, Exception], Exception]) -> None:
    """Runs what `by` has to run, in order."""
    for step in steps:
        if step.by == by:
            try:
                plpy.execute(step.detail)
            except plpy.SPIError as error:
                raise refused(step, error) from None
