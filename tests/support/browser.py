"""A headless Chromium, driven by its DevTools protocol, that records requests and errors of a page."""

import asyncio
import base64
import json
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--remote-debugging-port=0", "--window-size=1400,1000"),
)
PATIENCE_S = 60.0
"""Time after which a page counts as broken; much longer than a page takes on a busy machine."""


@dataclass
class Page:
    """A tab of the browser."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    """Console errors and warnings, uncaught exceptions, failed requests."""
    asked: list[str] = field(default_factory=list)
    """Addresses of all requests."""
    _last: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer. Events that arrive before the answer are recorded."""
        self._last += 1
        await self.socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self.socket.receive_json(), PATIENCE_S)
            if message.get("id") == self._last:
                return dict(message["result"])
            self._note(message.get("method", ""), message.get("params", {}))

    async def open(self, url: str, until: str) -> None:
        """Open an address and wait until a JavaScript expression is true."""
        await self.call("Page.navigate", url=url)
        await self.wait(until)

    async def wait(self, until: str) -> None:
        """Wait until a JavaScript expression is true."""
        for _ in range(int(PATIENCE_S / 0.2)):
            if await self.value(until):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(
            f"{until}: not true after {PATIENCE_S} s; text: {await self.text()}; errors: {self.complaints}"
        )

    async def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def text(self) -> str:
        """Return the visible text of the page."""
        return str(await self.value("document.body ? document.body.innerText : ''"))

    async def picture(self, path: Path) -> None:
        """Write a screenshot."""
        shot = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, method: str, values: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(values["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(values["args"])[:500])
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.complaints.append(json.dumps(values["entry"])[:500])


def browse(folder: Path, visit: Callable[[Page], Awaitable[None]]) -> Page:
    """Start a browser with its profile in `folder`, let `visit` drive it, and return the page."""
    assert BROWSER
    profile = folder / "profile"
    browser = subprocess.Popen([BROWSER, *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(_browse(profile, visit))
    finally:
        browser.terminate()
        browser.wait(timeout=20)


async def _browse(profile: Path, visit: Callable[[Page], Awaitable[None]]) -> Page:
    port = await _port(profile / "DevToolsActivePort")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tab = next(tab for tab in await answer.json() if tab["type"] == "page")
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.call(f"{domain}.enable")
            await visit(page)
            return page


async def _port(path: Path) -> int:
    for _ in range(int(PATIENCE_S / 0.1)):
        with suppress(FileNotFoundError, IndexError, ValueError):
            return int(path.read_text().splitlines()[0])
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{BROWSER}: did not start within {PATIENCE_S} s")
