"""A headless Chromium driven over its debugging pipe: NUL-separated JSON on two file descriptors, nothing to install.

Source: Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/ (Page, Runtime, Emulation, Log).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


def program() -> str | None:
    """Chromium's path, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page. `complaints` gathers what the browser logs: errors of scripts and of the content security policy; `requests`
    every address asked for, `blocked` those that a policy kept from being asked for."""

    def __init__(self, width: int = 1400, height: int = 1000, *, dark: bool = False) -> None:
        found = program()
        assert found is not None
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        (read, chrome_out), (chrome_in, write) = os.pipe(), os.pipe()
        for fd in (chrome_in, chrome_out):
            os.set_inheritable(fd, True)
        # Chromium reads file descriptor 3 and writes 4.
        shell = f'exec 3<&{chrome_in} 4>&{chrome_out}; exec "$0" "$@"'
        command = ["bash", "-c", shell, found, *FLAGS, f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            command, pass_fds=(chrome_in, chrome_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(chrome_in)
        os.close(chrome_out)
        self._read, self._write, self._buffer, self._number = read, write, b"", 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.blocked: list[str] = []
        self._asked: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
        if dark:
            self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page and wait until its script says that it is ready."""
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.call("Page.navigate", url=page.as_uri() + (f"#{fragment}" if fragment else ""))
        self.wait("document.documentElement?.dataset.readyMs")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, timeout_s: float = 60.0) -> Any:
        """Wait until an expression is true and return it."""
        end = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}; the browser says {self.complaints}"
            time.sleep(0.02)
        return value

    def type(self, field: str, text: str) -> None:
        """Put words into a field."""
        event = "box.dispatchEvent(new Event('input', {bubbles: true}))"
        self.run(f"(() => {{ const box = document.querySelector({field!r}); box.value = {text!r}; {event} }})()")

    def picture(self, path: Path) -> None:
        """Write a PNG of what is seen."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + 180
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0], "Chromium does not answer"
            self._buffer += os.read(self._read, 1 << 20)
        raw, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(raw)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Log.entryAdded":
                self.complaints.append(event["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["params"]["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(event["params"]["args"]))
            case "Network.requestWillBeSent":
                address = event["params"]["request"]["url"].partition("#")[0]
                self._asked[event["params"]["requestId"]] = address
                self.requests.append(address)
            case "Network.loadingFailed" if event["params"].get("blockedReason") == "csp":
                self.blocked.append(self._asked[event["params"]["requestId"]])
