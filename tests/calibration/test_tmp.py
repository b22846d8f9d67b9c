from tests.fix_database import Database
def test_x(shop: Database) -> None:
    for q in ("select part, cut, n, protocol from ubp.model_tests order by 2", "select map_id, method, x, y, n, cuts, metrics from ubp.calibration_maps",
              "select * from ubp.calibration_report order by cut, calibrated", "select deployment_id, map_id from ubp.deployments", "select * from ubp.reliability limit 4",
              "select count(*), min(score), max(score), count(distinct score) from ubp.user_scores"):
        for r in shop.rows(q): print(r)
    print(shop.rows("select ubp.calibrate_model('purchase', 1, 'isotonic')"))
    print(shop.rows("select map_id, method, x, y, n, cuts, metrics from ubp.calibration_maps"))
