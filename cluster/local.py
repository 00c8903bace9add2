"""`python -m cluster.local`: a Ray cluster of many nodes on this machine, to try a study out and for tests."""

import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Final, Self

import typer

from cluster.dashboard import alive_nodes, past_proxies
from cluster.node import NodeSize, RayNode, spawn
from renalnet.commands.line import run
from renalnet.errors import ClusterError
from renalnet.runtime.log import get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("cluster.local")  # not `__name__`, which is `__main__` here

START_TIMEOUT_S: Final = 300.0
"""Seconds that a node may take until it has joined."""
MAX_NODES: Final = 250
"""Node addresses are 127.0.0.2 to 127.0.0.251."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a person or a batch system ends a command."""


class LocalCluster:
    """A Ray cluster on this machine. Each node has its own raylet, folder, ports and loopback address.

    All connections need a random token, which only `environment` and a file of this user hold. The cluster is a
    context manager. At the end of the block, all nodes have ended and their folder is removed.
    """

    def __init__(self, num_nodes: int = 4, size: NodeSize | None = None, head: NodeSize | None = None) -> None:
        """Create a cluster that starts when its block is entered.

        Args:
            num_nodes: number of nodes, 1 to `MAX_NODES`. Node 0 is the head.
            size: resources of each node.
            head: resources of the head, if they differ. `NodeSize(0, 0)` keeps trials off the head.

        Raises:
            ClusterError: `num_nodes` is not in its range.
        """
        if not 1 <= num_nodes <= MAX_NODES:
            raise ClusterError(f"{num_nodes} nodes: a cluster on one machine has 1 to {MAX_NODES}; change --nodes")
        self._num_nodes = num_nodes
        self._size = size or NodeSize()
        self._head = head or self._size
        self._folder = Path()
        self._nodes: list[RayNode] = []
        self._token = secrets.token_hex(32)
        self.address = f"{_ip(0)}:{_free_port()}"
        """HOST:PORT for `ray.init` and `ray start`."""
        self.dashboard = f"http://127.0.0.1:{_free_port()}"
        """Address of Ray's dashboard, which also accepts jobs."""

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a command on the cluster: those of this process, the addresses and the token."""
        # Variables of another Ray would lead the command to another cluster.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        # `python` is this one, also where its environment is not activated.
        programs = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
        return {**inherited, "PATH": programs, **self._own_variables()}

    @property
    def environment_file(self) -> Path:
        """Shell script that sets these variables in a terminal. Only this user can read it."""
        return self._folder / "environment.sh"

    def __enter__(self) -> Self:
        # Not in TMPDIR, which may be long: Ray creates sockets here, whose paths have at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        try:
            self._write_environment()
            self._start()
        except BaseException:  # `__exit__` is not called if this fails, and a signal raises typer.Exit
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_node(self) -> int:
        """Add a node with the resources of all nodes, wait until it has joined, and return its number."""
        self._launch()
        self._wait_for(self._nodes[-1])
        return len(self._nodes) - 1

    def kill_node(self, number: int) -> None:
        """Kill all processes of a node. Ray notices it by itself. Without node 0, the head, the cluster fails."""
        self._nodes[number].kill()

    def check(self) -> None:
        """Raise ClusterError if the head has ended."""
        _check(self._nodes[0])

    def close(self) -> None:
        """Stop all nodes and remove the folder of the cluster."""
        with _signals_held():
            # All are asked before any is waited for, so that they end at once; the head last, since the others need it.
            for node in reversed(self._nodes):
                node.ask_to_stop()
            for node in reversed(self._nodes):
                node.wait_stopped()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _own_variables(self) -> dict[str, str]:
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "RAY_USAGE_STATS_ENABLED": "0",
            **past_proxies(dict(os.environ), *self._hosts()),
        }

    def _hosts(self) -> list[str]:
        num_nodes = max(self._num_nodes, len(self._nodes) + 1)  # nodes may be added
        return ["localhost", "127.0.0.1", *map(_ip, range(num_nodes))]

    def _write_environment(self) -> None:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self._own_variables().items()]
        self.environment_file.touch(mode=0o600)  # before the token is written, so that nobody else can read it
        self.environment_file.write_text("".join(lines), encoding="utf-8")

    def _start(self) -> None:
        self._launch()  # the head first, because the other nodes need its address
        self._wait_for(self._nodes[0])
        for _ in range(1, self._num_nodes):
            self._launch()
        for node in self._nodes:
            self._wait_for(node)

    def _launch(self) -> None:
        number = len(self._nodes)
        size = self._size if number else self._head
        options = self._worker_options() if number else self._head_options()
        # The default port of the agent can be used by one node of a machine only.
        options.append(f"--dashboard-agent-listen-port={_free_port()}")
        self._nodes.append(RayNode(self._folder / str(number), _ip(number), size, options, self.environment))

    def _head_options(self) -> list[str]:
        ports = [f"--port={_port_of(self.address)}", f"--dashboard-port={_port_of(self.dashboard)}"]
        return ["--head", *ports, "--dashboard-host=127.0.0.1", f"--ray-client-server-port={_free_port()}"]

    def _worker_options(self) -> list[str]:
        return [f"--address={self.address}"]

    def _wait_for(self, node: RayNode) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while node.ip not in alive_nodes(self.dashboard, self._token).values():
            if not node.start_again():  # it runs, or it has ended for a reason that another start does not change
                _check(node)
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"node {node.ip} did not join within {START_TIMEOUT_S:.0f} s; output of `ray start`: {node.output}"
                )
            time.sleep(0.2)


# Without interspersed options, those of the command after `--` are left to the command.
@app.command(context_settings={"allow_interspersed_args": False})
def local(
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Command to run on the cluster, after `--`. Without one, the cluster runs until Ctrl-C."),
    ] = None,
    nodes: Annotated[int, typer.Option(help="Number of nodes, including the head.")] = 4,
    cpus: Annotated[int, typer.Option(help="Processor slots of each node.")] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs of each node. They are fake if the machine has no GPU.")] = 1,
    head_cpus: Annotated[
        int | None, typer.Option(help="Processor slots of the head, if they differ. 0 keeps trials off the head.")
    ] = None,
) -> None:
    """Start a Ray cluster on this machine, run a command on it, and stop the cluster in any case.

    Example: python -m cluster.local --nodes 4 -- python -m study.run --preset quick

    The exit code is that of the command.
    """
    size = NodeSize(cpus, gpus)
    # A head with GPUs would still get tasks that ask for a GPU and no processor.
    head = None if head_cpus is None else NodeSize(head_cpus, gpus if head_cpus else 0)
    with _signals_raised(), LocalCluster(nodes, size, head) as cluster:
        _log.info("%d nodes are running; the dashboard is at %s", nodes, cluster.dashboard)
        if command:
            raise typer.Exit(_run_on(cluster, command))
        _stay_up(cluster)


def main() -> None:
    """Run the command line `cluster.local`."""
    run(app)


def _run_on(cluster: LocalCluster, command: Sequence[str]) -> int:
    """Run a command and pass signals on to it. Return its exit code, or 128 + the signal that ended it."""
    try:
        child = spawn(command, cluster.environment)
    except OSError as error:
        raise ClusterError(f"{command[0]} cannot be run: {error.strerror}; name a program after `--`") from error
    try:
        # The command decides how it ends, and until then the cluster has to run.
        with _signals_handled(lambda number, _: child.send_signal(number)):
            code = child.wait()
    finally:
        child.kill()
    return code if code >= 0 else 128 - code  # Popen gives the negative number of the signal


def _stay_up(cluster: LocalCluster) -> None:
    _log.info("to use the cluster in another terminal: source %s", cluster.environment_file)
    _log.info("then: python -m study.run …, or python -m cluster.submit -- python -m study.run …; Ctrl-C stops it")
    while True:
        time.sleep(1)
        cluster.check()


def _check(node: RayNode) -> None:
    if not node.runs:
        raise ClusterError(f"node {node.ip} has ended; output of `ray start`: {node.output}")


@contextmanager
def _signals_handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _signals_raised() -> AbstractContextManager[None]:
    """Turn signals inside the block into an exception, so that the cluster is stopped before this process ends."""

    def leave(number: int, _: FrameType | None) -> None:
        raise typer.Exit(128 + number)

    return _signals_handled(leave)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Delay signals until the end of the block, so that no process or folder is left over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ip(number: int) -> str:
    return f"127.0.0.{number + 2}"  # not 127.0.0.1, which Ray replaces by an external address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))  # the system chooses a free port, on all addresses, because nodes differ in theirs
        return int(probe.getsockname()[1])


def _port_of(address: str) -> str:
    return address.rpartition(":")[2]


if __name__ == "__main__":
    main()
