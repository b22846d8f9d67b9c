"""In these tests the card computes whom it can: of as few users as they have, it would leave everybody to the CPU."""

from collections.abc import Iterator

import pytest

from ubp_sql.kernels import gpu


@pytest.fixture(scope="module", autouse=True)
def whom_it_can() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "SLOWER", 0.0)
        yield
