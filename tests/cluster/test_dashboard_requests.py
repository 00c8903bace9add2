"""Requests to a cluster's dashboard: past proxies, with the token from where Ray reads it."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support import commands

from cluster.dashboard import alive_nodes, past_proxies, token
from cluster.local import LocalCluster
from cluster.wait import wait
from renalnet.errors import ClusterError

NODE = '{"data": {"result": {"result": [{"node_id": "a", "node_ip": "10.0.0.1", "state": "ALIVE"}]}}}'
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy")


@contextmanager
def server(status: int, answer: str = "") -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Yield the address of a server that always gives one answer, and what it was asked for with which token."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        do_POST = do_GET  # noqa: N815 (the name that the server looks for)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", seen
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, and no token in the environment."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_alive_nodes_of_an_answer() -> None:
    with server(200, NODE) as (address, seen):
        assert alive_nodes(address, "t") == {"a": "10.0.0.1"}
    assert [token for _, token in seen] == ["Bearer t"]


@pytest.mark.parametrize("answer", ["[]", '{"data": []}', '{"data": {"result": {"result": ["a"]}}}', "no JSON"])
def test_answers_of_another_server_are_no_nodes(answer: str) -> None:
    with server(200, answer) as (address, _):
        assert alive_nodes(address, "") == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_told_from_an_absent_node(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(status) as (address, _):
        with pytest.raises(ClusterError, match=f"^{address} asks for a token and none was found; put the cluster's"):
            wait(nodes=1, timeout_s=5, address=address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        with pytest.raises(ClusterError, match=f"^{address} refuses the token, which is another cluster's"):
            wait(nodes=1, timeout_s=5, address=address)


def test_the_token_is_where_ray_reads_it(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token() == ""
    (own_home / ".ray").mkdir()
    (own_home / ".ray" / "auth_token").write_text("of the home\n")
    assert token() == "of the home"
    (own_home / "other").write_text("of a path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(own_home / "other"))
    assert token() == "of a path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "stated")
    assert token() == "stated"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["cluster.wait", "cluster.submit"])
def test_no_proxy_is_sent_anything(module: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    more = {
        "cluster.wait": ["--nodes", "1", "--timeout-s", "0"],
        "cluster.submit": ["--working-dir", str(tmp_path), "--", "true"],
    }
    with server(502) as (proxy, seen), server(404) as (head, asked):
        names = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
        environment = {**names, **dict.fromkeys(PROXIES, proxy), "RAY_AUTH_TOKEN": "planted", "RAY_AUTH_MODE": "token"}
        command = [sys.executable, "-m", module, "--address", head, *more[module]]
        done = commands.run(command, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not seen and asked


def test_hosts_are_added_to_those_that_need_no_proxy() -> None:
    known = {"no_proxy": "intranet, 10.0.0.1"}
    assert past_proxies(known, "10.0.0.1", "head")["no_proxy"] == "intranet,10.0.0.1,head"
    assert past_proxies({}, "head") == {"no_proxy": "head", "NO_PROXY": "head"}


@pytest.mark.slow
def test_a_local_cluster_starts_beside_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(502) as (proxy, seen):
        for name in PROXIES:
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with LocalCluster(1) as cluster:
            own = cluster.environment["RAY_AUTH_TOKEN"]
            assert len(alive_nodes(cluster.dashboard, own)) == 1
            command = [sys.executable, "-m", "cluster.submit", "--working-dir", "cluster", "--", "echo", "ran"]
            done = commands.run(command, env=cluster.environment)
    assert done.returncode == 0 and "ran" in done.stdout, done.stderr
    # At its start, Ray asks clouds for the kind of machine. These requests have no token.
    assert not any(token or "127.0.0" in target for target, token in seen)
