-- Events wherever they lie: ubp.events, and relations that were attached.

-- ubp.event_rows: all events as rows of one form. Its body is a branch for each place where events lie, written anew when
-- a source is attached or users are linked, and at the end of an installation (ubp.rebuild_generated); this is the form
-- of a database without either. No SET clause, not STRICT, a body given as text: so the planner puts it in place of the
-- call, conditions reach the indexes of each relation, row security is the caller's, and a relation of somebody else's
-- may be changed or dropped without asking us.
-- origin: 0, or the source_id of an attached source. raw_id: the id as the relation has it, NULL where that is no integer.
create or replace function ubp.event_rows()
returns table (event_id bigint, user_id bigint, event_time timestamptz, kind text, item_id bigint,
  value double precision, quantity real, duration_s real, attributes jsonb, ingested_at timestamptz, source integer,
  tenant integer, origin integer, raw_id bigint)
language sql stable parallel unsafe
as $sql$
select e.event_id, e.user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s, e.attributes,
       e.ingested_at, e.source, e.tenant, 0, e.event_id
  from ubp.events e
$sql$;
comment on function ubp.event_rows() is 'All events, those of attached relations too, in one form; for queries of ubp_sql''s own functions: ubp.all_events shows the same.';
revoke all on function ubp.event_rows() from public;
alter function ubp.event_rows() owner to ubp_owner;
grant execute on function ubp.event_rows() to ubp_reader, ubp_loader, ubp_auditor;

-- ubp.all_events: the same for people. Who reads it needs the right to read ubp.events and each attached relation.
create or replace view ubp.all_events as
select e.event_id, e.user_id, e.event_time, e.kind, e.item_id, e.value, e.quantity, e.duration_s, e.attributes,
       e.ingested_at, e.source, e.tenant, e.origin, e.raw_id
  from ubp.event_rows() e;
comment on view ubp.all_events is 'All events: those of ubp.events and those of attached relations, under the ids of linked users.';
comment on column ubp.all_events.event_id is 'of ubp.events; of an attached relation its source times 2^48, and the key or a hash';
comment on column ubp.all_events.user_id is 'whose, by ubp.link_users';
comment on column ubp.all_events.event_time is 'when it happened';
comment on column ubp.all_events.kind is 'what';
comment on column ubp.all_events.item_id is 'with which item; NULL where the item''s key has no id yet';
comment on column ubp.all_events.value is 'worth in your currency; NaN counts as missing';
comment on column ubp.all_events.quantity is 'how many; NULL of an attached relation';
comment on column ubp.all_events.duration_s is 'how long, seconds; NULL of an attached relation';
comment on column ubp.all_events.attributes is 'anything else; NULL of an attached relation';
comment on column ubp.all_events.ingested_at is 'when the database learnt of it; the event time where an attached relation does not say';
comment on column ubp.all_events.source is 'ubp.sources.source_id; 0 = plain INSERT';
comment on column ubp.all_events.tenant is 'owner of the row in a shared database; 0 = the only one';
comment on column ubp.all_events.origin is '0: ubp.events; else source_id of the attached source';
comment on column ubp.all_events.raw_id is 'the id as the relation has it; NULL where it is no integer';
alter view ubp.all_events owner to ubp_owner;
grant select on ubp.all_events to ubp_auditor;
