"""`python -m cluster.wait`: wait for the nodes of a Ray cluster. A study counts its slots only when it begins."""

import time
from typing import Annotated, Final

import typer

from cluster.dashboard import DEFAULT_ADDRESS, DashboardAddress, alive_nodes, token, with_scheme
from renalnet.commands.line import run
from renalnet.errors import ClusterError
from renalnet.runtime.log import get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("cluster.wait")  # not `__name__`, which is `__main__` here

_POLL_S: Final = 0.2


@app.command()
def wait(
    nodes: Annotated[int, typer.Option(help="Number of nodes to wait for, including the head.")],
    timeout_s: Annotated[
        float, typer.Option(help="Seconds to wait. After that, the command succeeds if at least one node has joined.")
    ] = 300.0,
    address: DashboardAddress = DEFAULT_ADDRESS,
) -> None:
    """Wait until a number of nodes have joined a Ray cluster. Its token is read where Ray reads it.

    The exit code is 2 if no node has joined in time, or if the head refuses the token.
    """
    address = with_scheme(address)
    own = token()
    deadline = time.monotonic() + timeout_s
    while (found := len(alive_nodes(address, own))) < nodes and time.monotonic() < deadline:
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
