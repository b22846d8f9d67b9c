"""Shared fixtures: a cluster for the session, an installed template database, a fresh clone of it per test.

Where there is no card, numba.cuda simulates one: it asks this variable when it is imported, by whichever test is first.
"""

import os

if not os.path.exists("/dev/nvidiactl"):
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

pytest_plugins = ["tests.fix_cluster", "tests.fix_database"]
