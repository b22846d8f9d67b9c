"""Draws docs/report.png, the top of a report on the small simulated shop of the tests: python docs/report_page.py"""

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fix_database import Database  # noqa: E402
from tests.make_shop import fill  # noqa: E402
from tests.report.browser import browser  # noqa: E402
from ubp_sql.embedded import Cluster  # noqa: E402
from ubp_sql.install import commands  # noqa: E402
from ubp_sql.training.report.write import write  # noqa: E402

WIDTH, HEIGHT, COLOURS = 1_100, 2_070, 64


def main() -> None:
    with TemporaryDirectory() as folder:
        here = Path(folder)
        here.chmod(0o711)
        cluster = Cluster(here / "cluster", fast=True)
        cluster.start()
        try:
            with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as conn:
                commands.init(conn)
                fill(Database(cluster, "postgres"))
                write(conn, "purchase", here / "report.html")
        finally:
            cluster.remove()
        with browser(here / "profile") as page:
            page.open(here / "report.html", WIDTH)
            picture = page.picture({"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(ROOT / "docs" / "report.png", optimize=True)


if __name__ == "__main__":
    main()
