"""Each case once: its name, what it measures, and the function that runs it."""

from collections.abc import Callable
from typing import Any

from bench import accuracy, demo, load, predict

CASES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "accuracy": (
        "three held-out cuts of Online Retail, with bootstrap intervals, beside a hand-written script",
        accuracy.run,
    ),
    "predict": ("latency of predict_purchase(user_id) beside a primary-key SELECT", predict.run),
    "load": ("seconds to load Online Retail", load.run),
    "demo": ("`make demo DATA=...` as a whole process, second run", demo.run),
}
