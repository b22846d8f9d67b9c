"""A headless Chromium of a test's own, spoken to through a pipe: what a page loads, says on its console and measures.

The DevTools protocol over file descriptors 3 and 4 needs no driver and no library.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
SECONDS = 60.0


def found() -> str | None:
    """The browser's program, if there is one."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One page of it; `events` is what it said on its own since it was opened."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._left, self._last, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Network", "Runtime", "Log"):
            self._ask(f"{part}.enable")

    def open(self, page: Path, width: int, height: int = 900, *, dark: bool = False, print_: bool = False) -> None:
        """Loads the page into a window of that size, with no event left of what was before."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", media="print" if print_ else "screen", features=[scheme])
        self.events.clear()
        self._ask("Page.navigate", url=page.absolute().as_uri())
        self._until(lambda event: event["method"] == "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """A PNG of the whole page, or of a part of it."""
        more = {} if clip is None else {"clip": {"scale": 1, **clip}}
        answer = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, **more)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self._ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])

    def requests(self) -> list[str]:
        """Addresses of all that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What is on the console: errors, warnings, exceptions, refusals of the page's own policy."""
        wanted = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in wanted]

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda said: said.get("id") == self._last)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def _until(self, wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while True:
            while b"\0" not in self._left:
                ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
                data = os.read(self._read, 1 << 20) if ready else b""
                if not data:
                    raise TimeoutError(f"the browser said nothing more (exit status {self._process.poll()})")
                self._left += data
            line, _, self._left = self._left.partition(b"\0")
            said: dict[str, Any] = json.loads(line)
            if "method" in said:
                self.events.append(said)
            if said.get("id") == self._last if "id" in said else wanted({"id": None, **said}):
                return said


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile in `profile`; it ends with the block."""
    program = found()
    if program is None:
        raise FileNotFoundError("chromium")
    to_browser, from_browser = os.pipe(), os.pipe()
    # The browser reads its commands from 3 and answers on 4.
    script = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(to_browser[0], from_browser[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        yield Browser(process, to_browser[1], from_browser[0])
    finally:
        os.close(to_browser[1])
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_browser[0])
