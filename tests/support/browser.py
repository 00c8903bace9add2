"""A headless Chromium over its DevTools protocol: what a page shows, asks for and complains of."""

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


@dataclass
class Page:
    """A tab."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    """Console errors and warnings, uncaught exceptions, failed requests."""
    asked: list[str] = field(default_factory=list)
    """Addresses of all requests."""
    _last: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; events that come before its answer are kept."""
        self._last += 1
        await self.socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self.socket.receive_json(), PATIENCE_S)
            if message.get("id") == self._last:
                return dict(message["result"])
            self._note(message.get("method", ""), message.get("params", {}))

    async def open(self, url: str, until: str) -> None:
        """Go to an address and wait until a script's expression is true."""
        await self.call("Page.navigate", url=url)
        await self.wait(until)

    async def wait(self, until: str) -> None:
        """Wait until a script's expression is true."""
        for _ in range(int(PATIENCE_S / 0.2)):
            if await self.value(until):
                return
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{until} is never true; the page says: {await self.text()}; {self.complaints}")

    async def value(self, script: str) -> Any:
        """What a script's expression is."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def text(self) -> str:
        """All that is to be read."""
        return str(await self.value("document.body ? document.body.innerText : ''"))

    async def picture(self, path: Path) -> None:
        """Keep a screenshot."""
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
    """Let `visit` drive a new browser whose profile lies in `folder`; the page as it was left."""
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
    raise TimeoutError("the browser does not start")
