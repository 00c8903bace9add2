"""`python -m cluster.local`: a Ray cluster of many nodes on this machine, for trying out and for tests."""

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

from cluster.node import NodeSize, RayNode, spawn
from cluster.wait import alive_nodes
from renalnet.commands.line import run
from renalnet.errors import ClusterError
from renalnet.runtime.log import get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("cluster.local")  # `__name__` is `__main__` here

START_TIMEOUT_S: Final = 300.0
MAX_NODES: Final = 250
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LocalCluster:
    """Nodes of a Ray cluster, each with its own raylet, folder, ports and address on loopback.

    Every part asks for a token that is drawn anew, and that only `environment` and a file of this user hold. Used
    as a context manager: all nodes have ended and their folder is gone when the block is left.
    """

    def __init__(self, num_nodes: int = 4, size: NodeSize | None = None, head: NodeSize | None = None) -> None:
        """Describe it; it starts with the block.

        Args:
            num_nodes: nodes that offer `size`. Node 0 is the head.
            size: what each node offers.
            head: what the head offers instead; `NodeSize(0, 0)` keeps trials off it.

        Raises:
            ClusterError: too many or no nodes.
        """
        if not 1 <= num_nodes <= MAX_NODES:
            raise ClusterError(f"{num_nodes} nodes: a cluster on one machine has 1 to {MAX_NODES}")
        self._num_nodes, self._size, self._head = num_nodes, size or NodeSize(), head
        self._folder = Path()
        self._nodes: list[RayNode] = []
        self._token = secrets.token_hex(32)
        self.address = f"{_ip(0)}:{_free_port()}"
        """HOST:PORT for `ray.init` and `ray start`."""
        self.dashboard = f"http://127.0.0.1:{_free_port()}"
        """Ray's dashboard, which also takes jobs."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a command that uses the cluster: this process's, the addresses and the token."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        programs = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
        return {**inherited, "PATH": programs, **self._own_variables()}

    @property
    def environment_file(self) -> Path:
        """A shell script, readable by this user only, that sets the same in a terminal."""
        return self._folder / "environment.sh"

    def __enter__(self) -> Self:
        # Short, whatever TMPDIR says: Ray puts sockets below, whose paths are limited to 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        try:
            self._write_environment()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_node(self) -> int:
        """Add a node of the common size and wait until it is there; gives its number."""
        self._launch()
        self._wait_for(self._nodes[-1])
        return len(self._nodes) - 1

    def kill_node(self, number: int) -> None:
        """Kill all processes of a node at once; Ray notices by itself. Without node 0, the head, nothing works."""
        self._nodes[number].kill()

    def check(self) -> None:
        """Raises ClusterError if the head has ended."""
        _check(self._nodes[0])

    def close(self) -> None:
        """Stop what runs and remove the folder."""
        with _signals_held():
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
        }

    def _write_environment(self) -> None:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self._own_variables().items()]
        self.environment_file.touch(mode=0o600)
        self.environment_file.write_text("".join(lines), encoding="utf-8")

    def _start(self) -> None:
        self._launch()
        self._wait_for(self._nodes[0])
        for _ in range(1, self._num_nodes):
            self._launch()
        for node in self._nodes:
            self._wait_for(node)

    def _launch(self) -> None:
        number = len(self._nodes)
        options, size = self._worker_options(), self._size
        if number == 0:
            options, size = self._head_options(), self._head or self._size
        options = [*options, f"--dashboard-agent-listen-port={_free_port()}"]
        self._nodes.append(RayNode(self._folder / str(number), _ip(number), size, options, self.environment))

    def _head_options(self) -> list[str]:
        ports = [f"--port={_port_of(self.address)}", f"--dashboard-port={_port_of(self.dashboard)}"]
        return ["--head", *ports, "--dashboard-host=127.0.0.1", f"--ray-client-server-port={_free_port()}"]

    def _worker_options(self) -> list[str]:
        return [f"--address={self.address}"]

    def _wait_for(self, node: RayNode) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while node.ip not in alive_nodes(self.dashboard, self._token).values():
            if not node.start_again():
                _check(node)
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"node {node.ip} did not join within {START_TIMEOUT_S:.0f} s; it said: {node.output}"
                )
            time.sleep(0.2)


@app.command(context_settings={"allow_interspersed_args": False})
def local(
    command: Annotated[list[str] | None, typer.Argument(help="What to run on it; without, it stays up.")] = None,
    nodes: Annotated[int, typer.Option(help="Nodes, the head among them.")] = 4,
    cpus: Annotated[int, typer.Option(help="Processor slots of each.")] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs of each; fake where the machine has none.")] = 1,
    head_cpus: Annotated[int | None, typer.Option(help="Slots of the head; 0 keeps trials off it.")] = None,
) -> None:
    """Start a Ray cluster on this machine, run a command on it, and take it down, whatever happens.

    The exit code is the command's: python -m cluster.local --nodes 4 -- python -m study.run --preset quick
    """
    size = NodeSize(cpus, gpus)
    head = None if head_cpus is None else NodeSize(head_cpus, gpus if head_cpus else 0)
    with _signals_raised(), LocalCluster(nodes, size, head) as cluster:
        _log.info("%d nodes up; dashboard %s", nodes, cluster.dashboard)
        if command:
            raise typer.Exit(_run_on(cluster, command))
        _stay_up(cluster)


def main() -> None:
    """Entry point."""
    run(app)


def _run_on(cluster: LocalCluster, words: Sequence[str]) -> int:
    """Run a command; signals to this process go on to it. Gives its exit code, 128 + the signal that ended it."""
    try:
        child = spawn(words, cluster.environment)
    except OSError as error:
        raise ClusterError(f"{words[0]} cannot be run: {error.strerror}; name a program after `--`") from error
    try:
        with _signals_handled(lambda number, _: child.send_signal(number)):
            code = child.wait()
    finally:
        child.kill()
    return code if code >= 0 else 128 - code


def _stay_up(cluster: LocalCluster) -> None:
    _log.info("in another terminal: source %s", cluster.environment_file)
    _log.info("then: python -m study.run …, or python -m cluster.submit -- python -m study.run …; Ctrl-C ends it")
    while True:
        time.sleep(1)
        cluster.check()


def _check(node: RayNode) -> None:
    if not node.runs:
        raise ClusterError(f"node {node.ip} has ended; it said: {node.output}")


@contextmanager
def _signals_handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _signals_raised() -> AbstractContextManager[None]:
    """Inside, a signal that would end this process at once ends it through its blocks."""

    def leave(number: int, _: FrameType | None) -> None:
        raise typer.Exit(128 + number)

    return _signals_handled(leave)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Inside, such signals wait, so that nothing is left behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ip(number: int) -> str:
    return f"127.0.0.{number + 2}"  # Ray replaces 127.0.0.1 by an outward address


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _port_of(address: str) -> str:
    return address.rpartition(":")[2]


if __name__ == "__main__":
    main()
