"""The GPU's kernels against the oracles that the CPU's are held against: the same tests, run by the other backend."""

from collections.abc import Iterator

import pytest

from tests.features import test_behaviour, test_kernel, test_laws, test_ops
from ubp_sql.features import compute as computing
from ubp_sql.kernels import gpu

pytestmark = [
    pytest.mark.slow,  # simulated
    pytest.mark.skipif(bool(gpu.fault()), reason=f"no GPU, not even a simulated one: {gpu.fault()}"),
    # What Numba computes without a word - a hash's overflow, 0/0 - NumPy's scalars tell, in the simulator's threads.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
LEFT_OUT = {"test_a_cancel_is_honoured_between_chunks"}
"""All pairs of a user are one launch; test_kernels.py stops the GPU between users."""


@pytest.fixture(scope="module", autouse=True)
def on_the_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing, "backend", lambda: gpu)
        yield


for _module in (test_behaviour, test_kernel, test_laws, test_ops):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and _name not in LEFT_OUT:
            globals()[f"{_name}_of_{_module.__name__.rpartition('_')[2]}"] = _test
