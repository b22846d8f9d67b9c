"""When a task abstains: rows that serving reads beside the deployment."""

from typing import Any

from ubp_sql.api.session import check_version, entry, run, single
from ubp_sql.errors import BadInput, unknown_task

# Locked, as for a deployment: the next one takes the flag from the policy.
KNOWN = "select 1 as found from ubp.task_definitions where task = $1 for update"
POSITIVE = "select $1 > interval '0' as positive"
# What is switched off stays as a row: its moment says since when stored scores may be of another policy.
SET = """
insert into ubp.task_policies as p (task, least_events, most_age)
select $1, $2, $3
 where coalesce($2::text, $3::text) is not null or exists (select from ubp.task_policies o where o.task = $1)
on conflict (task) do update
  set least_events = excluded.least_events, most_age = excluded.most_age, set_at = now(), set_by = session_user
where (p.least_events, p.most_age) is distinct from (excluded.least_events, excluded.most_age)"""

# What answers, and what is to, says whether there is a policy to look at: a join with it would take 4 µs of each call.
FLAG = "update ubp.deployments set abstains = $2 where task = $1 and retired_at > now() and abstains <> $2"


@entry
def set_abstention(
    plpy: Any, memory: dict[str, Any], task: str | None, least_events: int | None, most_age: str | None
) -> None:
    """Makes a task say nothing of users with fewer events, or when its features are older; both None: never."""
    check_version(plpy, memory)
    if single(plpy, memory, KNOWN, ["text"], [task]) is None:
        raise unknown_task(task)
    if least_events is not None and least_events < 1:
        raise BadInput(f"least_events is {least_events}", "a number of events from 1 on; NULL: one is enough")
    if most_age is not None and not run(plpy, memory, POSITIVE, ["interval"], [most_age])[0]["positive"]:
        raise BadInput(f"most_age is {most_age}", "an interval above 0, for example '7 days'; NULL: any age")
    run(plpy, memory, SET, ["text", "integer", "interval"], [task, least_events, most_age])
    run(plpy, memory, FLAG, ["text", "boolean"], [task, least_events is not None or most_age is not None])
