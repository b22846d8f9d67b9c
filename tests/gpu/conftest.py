"""In these tests the card computes whom it can: of as few users as they have, it would leave everybody to the CPU."""

from collections.abc import Iterator

import pytest

from ubp_sql.kernels import gpu


@pytest.fixture(scope="package", autouse=True)
def own_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """On a card: compiled with a test's constants in place of the module's, they must not be kept for anybody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def whom_it_can() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "SLOWER", 0.0)
        yield
