"""Peak of a backend's own memory while it works."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE = 0.02


class Peak:
    """`mb` is the most Private_Dirty seen, in MB: what the process wrote and shares with nobody."""

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._path = Path(f"/proc/{pid}/smaps_rollup")

    def look(self) -> None:
        """One sample."""
        for line in self._path.read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                self.mb = max(self.mb, int(line.split()[1]) / 1024)


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Samples every 20 ms in a thread until the block ends."""
    peak, done = Peak(pid), threading.Event()

    def watch() -> None:
        while not done.wait(_PAUSE):
            peak.look()

    peak.look()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak.look()
