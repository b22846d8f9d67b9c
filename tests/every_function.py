"""Every function of schema `ubp`, each with calls to try it by: what none of them may do is tried on all."""

from typing import NamedTuple

import psycopg

Connection = psycopg.Connection[tuple[object, ...]]
MOMENT = "'2025-07-01 00:00+00'::timestamptz"
# By name and type of an argument, as SQL; `x` is a user id of the table that the call is made for. A function with an
# argument that is not here fails the tests: its author says what a sensible value is.
VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    ("active", "boolean"): ("true", "false"),
    ("after_chunk", "integer"): ("0", "-1"),
    ("aggregate", "text"): ("'count'", "'no_aggregate'"),
    ("as_of", "timestamp with time zone"): (MOMENT, "'infinity'"),
    ("at", "timestamp with time zone"): (MOMENT, "'2100-01-01 00:00+00'"),
    ("attached", "jsonb"): ("'{}'", "'7'"),
    ("attribute", "text"): ("'colour'",),
    ("attributes", "jsonb"): ('\'[{"user_key": "3", "item_key": "3", "age": 7}]\'', "'7'"),
    ("budget", "integer"): ("10", "-1"),
    ("changed", "boolean"): ("true",),
    ("changes", "jsonb"): ('\'{"events": [{"kind": "view"}]}\'', "'{\"no_feature\": 1}'", "'7'"),
    ("check_name", "text"): ("'gaps'", "'no_check'"),
    ("chunk", "integer"): ("1", "-1"),
    ("columns", "bytea[]"): ("array['\\x'::bytea]", "'{}'"),
    ("compiled", "bytea"): ("(select compiled from ubp.models limit 1)", "'\\x00'"),
    ("compiled_sha256", "text"): ("'00'",),
    ("cost", "double precision"): ("5", "'NaN'"),
    ("costs", "jsonb"): (
        '\'{"act_yes": -35, "act_no": 5, "skip_yes": 0, "skip_no": 0}\'',
        "'7'",
    ),
    ("coverage", "double precision"): ("0.5", "1"),
    ("cron", "text"): ("'5 * * * *'", "'often'"),
    ("cut", "timestamp with time zone"): (MOMENT, "'infinity'"),
    ("cuts", "timestamp with time zone[]"): (f"array[{MOMENT} - interval '40 days']", "'{}'"),
    ("data_from", "timestamp with time zone"): (MOMENT,),
    ("data_until", "timestamp with time zone"): (MOMENT,),
    ("dismissed", "boolean"): ("true", "false"),
    ("dry_run", "boolean"): ("true", "false"),
    ("event_id", "text"): ("null",),
    ("event_time", "text"): ("'to_timestamp(x)'", "'now()'"),
    ("events", "bigint"): ("7", "-1"),
    ("explicit", "boolean"): ("true",),
    ("feature", "text"): ("(select feature from ubp.feature_catalogue limit 1)", "'no_feature'"),
    ("feature_set", "text"): ("'default'", "'no_set'"),
    ("features", "double precision[]"): (
        "(select features::float8[] from ubp.feature_rows limit 1)",
        "array[x, 'NaN', null]",
        "array[[1, 2], [3, 4]]",
    ),
    ("features", "integer"): ("3", "-1"),
    ("features", "jsonb"): ('\'[{"name": "n", "aggregate": "count", "kinds": ["view"], "window": "9d"}]\'', "'7'"),
    ("filter", "text"): ("null",),
    ("finding_id", "bigint"): ("0",),
    ("for_users", "bigint[]"): ("array[x, -5]", "array[x, null]"),
    ("format", "text"): ("'DD/MM/YYYY'",),
    ("from_time", "timestamp with time zone"): (MOMENT, "'infinity'"),
    ("funds", "double precision"): ("100", "-1"),
    ("gain", "double precision"): ("40", "-1"),
    ("horizon", "interval"): ("interval '30 days'", "interval '-1 day'"),
    ("ingested_at", "text"): ("null",),
    ("into_table", "text"): ("'training_extra'", "'feature_rows'"),
    ("item_id", "bigint"): ("3",),
    ("item_id", "text"): ("null",),
    ("item_key", "text"): ("'3'", "'no item'"),
    ("item_keys", "text[]"): ("array['new item']",),
    ("job", "bigint"): ("1", "-1"),
    ("kind", "text"): ("'''view'''",),
    ("kinds", "text[]"): ("array['view', 'purchase']", "'{}'"),
    ("known_at", "text"): ("'cut'", "'never'"),
    ("label", "jsonb"): ("null", """'{"any": "view", "from": "-7d"}'::jsonb"""),
    ("label_kind", "text"): ("'purchase'",),
    ("labels", "bytea"): ("'\\x0000000000000000'", "'\\x00'"),
    ("least_events", "integer"): ("2", "0"),
    ("map_id", "bigint"): ("null", "-1"),
    ("meaning", "text"): ("'what it says'",),
    ("method", "text"): ("'auto'", "'isotonic'", "'no_method'"),
    ("metrics", "jsonb"): ("'[]'", "'7'"),
    ("model", "bytea"): ("'tree'::bytea", "'\\x80'"),
    ("model", "text"): ("'purchase'", "'no_task'"),
    ("most", "integer"): ("5", "-1"),
    ("most_age", "interval"): ("interval '90 days'", "interval '0'"),
    ("n", "integer"): ("4", "-1"),
    ("limit", "integer"): ("5", "-1"),
    ("name", "text"): ("'extra'", "'Not a Name'"),
    ("negatives", "double precision"): ("0.5", "-1"),
    ("new_name", "text"): ("'copy'", "'default'"),
    ("of", "text"): ("'event'", "'x'"),
    ("other_key", "text"): ("'3'", "'nobody'"),
    ("part", "text"): ("'test'", "'x'"),
    ("population_kind", "text"): ("'purchase'",),
    ("protocol", "text"): ("'held out'",),
    ("ready", "boolean"): ("true", "false"),
    ("relation", "regclass"): ("'public.numbers'", "'ubp.events'"),
    ("report", "jsonb"): ("'{}'",),
    ("rule", "text"): ("'gaps'", "'No rule'"),
    ("sample", "integer"): ("400", "-1"),
    ("scores", "bytea"): ("'\\x0000000000000000'", "'\\x000000000000f87f'"),
    ("seconds", "double precision"): ("0.5", "'NaN'"),
    ("settings", "jsonb"): ("'{}'", "'7'"),
    ("share", "double precision"): ("0.2", "7"),
    ("since", "timestamp with time zone"): (MOMENT, "'infinity'"),
    ("source", "text"): ("null", "'no source'"),
    ("source_id", "integer"): ("0", "99"),
    ("task", "text"): ("'purchase'", "'no_task'"),
    ("time_zone", "text"): ("'Europe/Berlin'", "'Nowhere'"),
    ("top", "integer"): ("3", "0"),
    ("type", "text"): ("'number'", "'x'"),
    ("typmod", "integer"): ("-1",),
    ("until_time", "timestamp with time zone"): (f"{MOMENT} + interval '40 days'", "'-infinity'"),
    ("user_id", "text"): ("'x'", "'nothing'"),
    ("user_id", "bigint"): ("x", "-x"),
    ("user_ids", "bigint[]"): ("array[x, -5]", "array[x, null]", "'{}'"),
    ("user_keys", "text[]"): ("array['new user']",),
    ("user_key", "text"): ("x::text", "'nobody'"),
    ("users", "bytea"): ("'\\x0100000000000000'", "'\\x'"),
    ("valid_from", "timestamp with time zone"): (MOMENT, "'infinity'"),
    ("value", "anyarray"): ("array[x, 2]",),
    ("value", "double precision"): ("7", "'NaN'"),
    ("value", "text"): ("'red'",),
    ("version", "integer"): ("1", "99"),
    ("window", "text"): ("'9d'", "'long'"),
    ("windows_days", "integer[]"): ("array[7, 30]", "array[-1]"),
    ("x", "double precision[]"): ("array[0.2, 0.8]", "array[1.0, 0.5]", "'{}'"),
    ("y", "double precision[]"): ("array[0.1, 0.9]", "'{}'", "array['NaN']"),
}
NOT_CALLED = {"image_array": "believes its bytes: nobody but ubp_owner may call it"}
NOT_NULL = {"cuts": "every event: seconds of compiling, and tests/training does it"}
FUNCTIONS = """
select p.proname::text, coalesce(p.proargnames[1:p.pronargs], '{}'),
       array(select format_type(a.type, null) from unnest(p.proargtypes) with ordinality as a (type, place)
              order by a.place), p.provolatile::text
  from pg_proc p where p.pronamespace = 'ubp'::regnamespace and p.prorettype <> 'trigger'::regtype
 order by p.oid::regprocedure::text collate "C" """


class Function(NamedTuple):
    name: str
    arguments: list[str]
    types: list[str]
    volatility: str

    def calls(self) -> list[str]:
        """With sensible arguments; then each in turn another value or NULL; then NULL alone."""
        choices = [VALUES[argument] for argument in zip(self.arguments, self.types, strict=True)]
        usual = [values[0] for values in choices]
        found = [usual]
        for place, values in enumerate(choices):
            others = values[1:] if self.arguments[place] in NOT_NULL else (*values[1:], "null")
            found += [[*usual[:place], other, *usual[place + 1 :]] for other in others]
        if choices:
            found.append(["null"] * len(choices))
        return [self._call(values) for values in found]

    def _call(self, values: list[str]) -> str:
        named = zip(self.arguments, values, self.types, strict=True)
        concrete = {"anyarray": "bigint[]"}
        listed = ", ".join(f'"{name}" => ({value})::{concrete.get(type_, type_)}' for name, value, type_ in named)
        return f"ubp.{self.name}({listed})"


def functions(conn: Connection) -> list[Function]:
    """All but those of triggers, which PostgreSQL itself lets nobody call, and NOT_CALLED."""
    rows = conn.execute(FUNCTIONS).fetchall()
    return [Function(*row) for row in rows if row[0] not in NOT_CALLED]  # type: ignore[arg-type]


def undescribed(conn: Connection) -> list[str]:
    """Arguments for which VALUES has nothing."""
    return [
        f"{function.name}({name} {type_})"
        for function in functions(conn)
        for name, type_ in zip(function.arguments, function.types, strict=True)
        if (name, type_) not in VALUES
    ]
