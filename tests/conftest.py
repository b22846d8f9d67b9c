"""Shared fixtures: a cluster for the session, an installed template database, a fresh clone of it per test.

Where there is no card, numba.cuda simulates one: it asks this variable when it is imported, by whichever test is first.
"""

import os

from hypothesis import HealthCheck, settings

if not os.path.exists("/dev/nvidiactl"):
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

# How long an example takes, or its drawing, says something about the machine and what else runs on it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = ["tests.fix_cluster", "tests.fix_database"]
