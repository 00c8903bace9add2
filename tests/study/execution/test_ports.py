"""On which ports a study listens, and whom it answers there."""

import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import Command, start
from support.process_tree import Port, descendants, listening, words
from support.ray_driver import joined
from support.study_command import command

from renalnet.data.store.reader import Store

TOKEN = "a" * 64
METRICS = b"# HELP "
"""Begin of the page of a Prometheus exporter: names of metrics and their values, which take no requests."""


@pytest.fixture
def driver(ball_store: Store, tiny_file: Path, tmp_path: Path) -> Iterator[Command]:
    """A study that trains its first trial."""
    names = ("RAY_ADDRESS", "RAY_AUTH_MODE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    arguments = command(ball_store, tiny_file, tmp_path / "r", "--set", "train.steps_per_epoch=1000")
    study = start(arguments, env={**environment, "RAY_AUTH_TOKEN": TOKEN})
    for _ in range(900):
        assert study.poll() is None, study.communicate()
        if any("Trainable" in name for name in descendants(study.pid).values()):
            break
        time.sleep(0.2)
    yield study
    study.kill()


def own_address() -> str:
    """Return the address of this machine towards others; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737); no packet is sent
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
    return "" if address.startswith("127.") else address


def page_of(host: str, port: int) -> bytes:
    """Return what a port answers to a request of HTTP without a token; empty where it refuses."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.read() if response.status == 200 else b""
    except (http.client.HTTPException, OSError):  # it speaks another protocol, or has ended
        return b""
    finally:
        connection.close()


def table(ports: list[Port]) -> str:
    return "\n".join(
        f"{'loopback' if port.is_loopback else 'open'} {port.host}:{port.port} {port.command[:80]}" for port in ports
    )


@pytest.mark.slow
def test_a_port_that_others_reach_answers_nobody_without_the_token(
    driver: Command, record_property: Callable[[str, object], None]
) -> None:
    ports = listening({driver.pid: words(driver.pid)} | descendants(driver.pid))
    record_property("ports", table(ports))
    (gcs,) = (port for port in ports if "gcs_server" in port.command.partition(" ")[0])
    address = own_address()
    for port in ports:
        if not port.is_loopback:
            page = page_of(address or "127.0.0.1", port.port)
            assert page == b"" or page.startswith(METRICS), (table([port]), page[:80])
    if not address:
        pytest.skip("this machine has no address but the loopback")
    assert not gcs.is_loopback, table(ports)  # else nobody could try
    place = f"{address}:{gcs.port}"
    refused = joined(place, {"RAY_AUTH_MODE": "disabled"})
    assert refused.returncode != 0 and "ran" not in refused.stdout
    right = joined(place, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN})
    assert right.stdout == "ran\n", right.stderr
