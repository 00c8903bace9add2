"""The web application of the dashboard: a page with the overview, and Optuna Dashboard below it. Both only read."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Final, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from renalnet.errors import ConfigError
from study.dashboard.overview import Overview
from study.progress.progress import hours_words

HOST: Final = "127.0.0.1"
REPORT: Final = "/report"
"""Path of the report."""
LOCAL_NAMES: Final = ("127.0.0.1", "localhost")
# The first page has no script; `data:` allows its empty icon.
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

Environ: TypeAlias = dict[str, Any]
Start: TypeAlias = Callable[..., Any]
Application: TypeAlias = Callable[[Environ, Start], Iterable[bytes]]


@dataclass(frozen=True)
class LiveViews:
    """The WSGI application. It refuses requests that would change the study, and host names other than loopback's.

    The host name is checked against DNS rebinding: a foreign web page whose name was made to resolve to this machine
    must not read the study.
    """

    optuna: Application
    """Optuna Dashboard."""
    look: Callable[[], Overview]
    """Returns the current overview."""
    report: Callable[[], bytes | None]
    """Returns the report as HTML; None where it was not written."""

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer one request."""
        if _host_name(environ) not in LOCAL_NAMES:
            return _refuse(
                start,
                "the dashboard is served to this machine only; open http://127.0.0.1:PORT, or use an SSH tunnel",
            )
        # Optuna Dashboard changes a study by other methods only.
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start, "the dashboard is read-only; change a study by the command that runs it")
        # Optuna Dashboard would redirect this path to its own page.
        if environ["PATH_INFO"] == "/":
            page = render(self.look()).encode()
            start("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", PAGE_POLICY)])
            return [page]
        if environ["PATH_INFO"] == REPORT:
            return self._report(start)
        return self.optuna(environ, start)

    def _report(self, start: Start) -> Iterable[bytes]:
        page = self.report()
        if page is None:
            start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"no report was written yet; the first page states the command that writes it\n"]
        # The report states its own policy for scripts.
        start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [page]


def render(overview: Overview) -> str:
    """Return the first page as HTML; it reloads itself while the study runs."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["hours"] = hours_words
    return environment.get_template("page.html").render(overview=overview)


def open_server(application: Application, port: int) -> WSGIServer:
    """Return a server that listens on loopback but does not serve yet; port 0 takes any free port.

    Raises:
        ConfigError: the port is in use or not allowed.
    """
    try:
        return make_server(HOST, port, application, server_class=_Server, handler_class=_Handler)
    # Python refuses a port above 65535 with OverflowError.
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port} on {HOST}: {error}; choose another port, or 0 for any free one") from error


class _Server(ThreadingMixIn, WSGIServer):
    # Ctrl-C must not wait for requests that a browser keeps open.
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing: one line per request would hide the addresses that the command printed."""


def _host_name(environ: Environ) -> str:
    return str(environ.get("HTTP_HOST", "")).partition(":")[0]


def _refuse(start: Start, reason: str) -> Iterable[bytes]:
    start("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]
