"""`python -m cluster.wait`: until the nodes of a cluster have joined, since a study counts its slots when it begins."""

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
_log = get_logger("cluster.wait")  # `__name__` is `__main__` here

ADDRESS: Final = "RAY_API_SERVER_ADDRESS"
DEFAULT_ADDRESS: Final = "http://127.0.0.1:8265"
MAX_NODES: Final = 10_000
_POLL_S: Final = 0.2


def alive_nodes(dashboard: str, token: str) -> dict[str, str]:
    """The nodes that the head knows as alive, with the address of each; none while no Ray head answers."""
    request = urllib.request.Request(f"{dashboard}/api/v0/nodes?limit={MAX_NODES}")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            nodes: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return {node["node_id"]: node["node_ip"] for node in nodes if node["state"] == "ALIVE"}
    except (OSError, HTTPException, ValueError, LookupError, TypeError):  # the latter ones: another server's words
        return {}


def with_scheme(address: str) -> str:
    """The address of a dashboard as `http://HOST:PORT`, of which the first part may be left out."""
    return address if "://" in address else f"http://{address}"


@app.command()
def wait(
    nodes: Annotated[int, typer.Option(help="Nodes to wait for, the head among them.")],
    timeout_s: Annotated[float, typer.Option(help="Seconds after which those at hand must do.")] = 300.0,
    address: Annotated[str, typer.Option(envvar=ADDRESS, help="Ray's dashboard.")] = DEFAULT_ADDRESS,
) -> None:
    """Wait until so many nodes have joined a Ray cluster whose token is in RAY_AUTH_TOKEN.

    Exit code 2 if none is there in time; with some, the study begins on these.
    """
    address = with_scheme(address)
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    deadline = time.monotonic() + timeout_s
    while (found := len(alive_nodes(address, token))) < nodes and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    if not found:
        raise ClusterError(
            f"no node at {address} after {timeout_s:g} s; see what `ray start` says, or name its dashboard by --address"
        )
    _log.info("%d of %d nodes", found, nodes)


def main() -> None:
    """Entry point."""
    run(app)


if __name__ == "__main__":
    main()
