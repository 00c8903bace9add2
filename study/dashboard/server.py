"""What the dashboard serves: a page that says how the study is, and Optuna Dashboard below it; both only read."""

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
LOCAL_NAMES: Final = ("127.0.0.1", "localhost")
PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

Environ: TypeAlias = dict[str, Any]
Start: TypeAlias = Callable[..., Any]
Application: TypeAlias = Callable[[Environ, Start], Iterable[bytes]]


@dataclass(frozen=True)
class LiveViews:
    """The whole application. What would change the study is refused, and so is a name that is not this machine's.

    The second keeps a web page of elsewhere, whose name was made to lead here, from reading the study.
    """

    optuna: Application
    look: Callable[[], Overview]
    """The study now."""

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer one request."""
        if _host_name(environ) not in LOCAL_NAMES:
            return _refuse(start, "this dashboard answers on loopback only")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start, "this view is for reading only: the study is written by its own command")
        if environ["PATH_INFO"] == "/":
            page = render(self.look()).encode()
            start("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", PAGE_POLICY)])
            return [page]
        return self.optuna(environ, start)


def render(overview: Overview) -> str:
    """The first page as text; it asks for itself again while the study runs."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["hours"] = hours_words
    return environment.get_template("page.html").render(overview=overview)


def open_server(application: Application, port: int) -> WSGIServer:
    """A server on loopback that listens but does not serve yet; port 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or not allowed.
    """
    try:
        return make_server(HOST, port, application, server_class=_Server, handler_class=_Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port} on {HOST}: {error}; choose another port, or 0 for any free one") from error


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing: a line a request would bury what the command says."""


def _host_name(environ: Environ) -> str:
    return str(environ.get("HTTP_HOST", "")).partition(":")[0]


def _refuse(start: Start, reason: str) -> Iterable[bytes]:
    start("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]
