"""Requests to the dashboard of a Ray cluster, with its token and past any proxy."""

import json
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit

import typer

from renalnet.errors import ClusterError

ADDRESS: Final = "RAY_API_SERVER_ADDRESS"
"""Environment variable of the dashboard's address; Ray's own commands read it, too."""
DEFAULT_ADDRESS: Final = "http://127.0.0.1:8265"
MAX_NODES: Final = 10_000
"""Nodes that one answer lists. Ray refuses a larger limit."""
TOKEN_PLACES: Final = "RAY_AUTH_TOKEN, or ~/.ray/auth_token with RAY_AUTH_MODE=token"
"""Places of the token, for error messages."""
DashboardAddress = Annotated[str, typer.Option(envvar=ADDRESS, help="Address of Ray's dashboard, as http://HOST:PORT.")]
_REFUSED: Final = (401, 403)
# A proxy would see the token, and a hospital's proxy does not reach a cluster inside.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def with_scheme(address: str) -> str:
    """Return the address of a dashboard as `http://HOST:PORT`; the argument may lack `http://`."""
    return address if "://" in address else f"http://{address}"


def token() -> str:
    """Return the token of the cluster from where Ray reads it, in Ray's order; empty if there is none.

    The places are RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, and ~/.ray/auth_token.
    """
    if stated := os.environ.get("RAY_AUTH_TOKEN"):
        return stated
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def alive_nodes(dashboard: str, token: str) -> dict[str, str]:
    """Return the IP address of each alive node by its id. The result is empty if no Ray head answers.

    Raises:
        ClusterError: the head refuses the token.
    """
    request = urllib.request.Request(f"{dashboard}/api/v0/nodes?limit={MAX_NODES}")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with _direct.open(request, timeout=10) as answer:
            nodes: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return {node["node_id"]: node["node_ip"] for node in nodes if node["state"] == "ALIVE"}
    except HTTPError as error:
        if error.code in _REFUSED:
            raise ClusterError(refusal(dashboard, has_token=bool(token))) from error
        return {}
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return {}  # ValueError, LookupError and TypeError: a server that is not Ray answered


def refusal(address: str, *, has_token: bool) -> str:
    """Return the message for a head that refuses the token, or that asks for one where none was found."""
    if has_token:
        return f"{address} refuses the token, which is another cluster's; put its own token into {TOKEN_PLACES}"
    return f"{address} asks for a token and none was found; put the cluster's token into {TOKEN_PLACES}"


def past_proxies(environment: dict[str, str], *hosts: str) -> dict[str, str]:
    """Return the variables by which the programs of an environment reach hosts directly, whatever proxy it names."""
    named = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    known = [host.strip() for host in named.split(",") if host.strip()]
    value = ",".join(dict.fromkeys([*known, *hosts]))
    return {"no_proxy": value, "NO_PROXY": value}


def host_of(address: str) -> str:
    """Return the host of an address with a scheme; empty if it names none."""
    return urlsplit(address).hostname or ""
