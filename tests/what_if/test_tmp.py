"""Quick look."""
from tests.fix_database import Database
def test_it(shop_copy: Database) -> None:
    user = shop_copy.one("select user_id from ubp.feature_rows r where ubp.predict('purchase', user_id) > 0.1 limit 1")
    with shop_copy.connect() as c:
        print(c.execute("select kinds from (select array_agg(distinct kind) kinds from ubp.events) x").fetchall())
        for ch in ['{"events":[{"kind":"view"}]}','{"as_of":"2025-08-01"}','{"days_since_purchase": 3}', '{"events":[{"kind":"viw"}]}','{"events":[{"kind":"purchase","value":10,"event_time":"tomorow"}]}']:
            try:
                print(c.execute("select * from ubp.predict_if_detail('purchase', %s::bigint, %s)", [user, ch]).fetchall())
                print(c.execute("select ubp.predict_if('purchase', 'nobody', %s)", [ch]).fetchall())
            except Exception as e: print(repr(e), e.diag.message_hint)
