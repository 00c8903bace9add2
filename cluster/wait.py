"""`python -m cluster.wait`: wait for the nodes of a Ray cluster. A study counts its slots only when it begins."""

import json
import os
import time
import urllib.request
from http.client import HTTPException
from typing import Annotated, Any, Final

import typer

from renalnet.commands.line import run
from renalnet.errors import ClusterError
from renalnet.runtime.log import get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("cluster.wait")  # not `__name__`, which is `__main__` here

ADDRESS: Final = "RAY_API_SERVER_ADDRESS"
"""Environment variable of the dashboard's address; Ray's own commands read it, too."""
DEFAULT_ADDRESS: Final = "http://127.0.0.1:8265"
MAX_NODES: Final = 10_000
"""Nodes that one answer lists. Ray refuses a larger limit."""
_POLL_S: Final = 0.2
DashboardAddress = Annotated[str, typer.Option(envvar=ADDRESS, help="Address of Ray's dashboard, as http://HOST:PORT.")]


def alive_nodes(dashboard: str, token: str) -> dict[str, str]:
    """Return the IP address of each alive node by its id. The result is empty if no Ray head answers."""
    request = urllib.request.Request(f"{dashboard}/api/v0/nodes?limit={MAX_NODES}")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            nodes: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return {node["node_id"]: node["node_ip"] for node in nodes if node["state"] == "ALIVE"}
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return {}  # ValueError, LookupError and TypeError: a server that is not Ray answered


def with_scheme(address: str) -> str:
    """Return the address of a dashboard as `http://HOST:PORT`; the argument may lack `http://`."""
    return address if "://" in address else f"http://{address}"


@app.command()
def wait(
    nodes: Annotated[int, typer.Option(help="Number of nodes to wait for, including the head.")],
    timeout_s: Annotated[
        float, typer.Option(help="Seconds to wait. After that, the command succeeds if at least one node has joined.")
    ] = 300.0,
    address: DashboardAddress = DEFAULT_ADDRESS,
) -> None:
    """Wait until a number of nodes have joined a Ray cluster, whose token is in RAY_AUTH_TOKEN.

    The exit code is 2 if no node has joined in time.
    """
    address = with_scheme(address)
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    deadline = time.monotonic() + timeout_s
    while (found := len(alive_nodes(address, token))) < nodes and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    if not found:
        raise ClusterError(
            f"no node at {address} after {timeout_s:g} s; read the output of `ray start`, or give the address of its "
            "dashboard with --address"
        )
    _log.info("%d of %d nodes have joined", found, nodes)


def main() -> None:
    """Run the command line `cluster.wait`."""
    run(app)


if __name__ == "__main__":
    main()
