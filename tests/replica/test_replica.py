def test_x(standby):
    with standby.connect() as conn:
        print(conn.execute("select pg_is_in_recovery()").fetchall())
