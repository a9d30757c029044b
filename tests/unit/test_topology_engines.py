# SPDX-License-Identifier: GPL-2.0-only
"""Whose container a process is in, and what an engine that answers, or does not, calls it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from tracer.topology import engines
from tracer.topology.engines import AGAIN_S, Engines, container_of, unit_of

WEB, DB = "ab" * 32, "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/system.slice/docker-{WEB}.scope\n",
        f"0::/docker/{WEB}\n",
        f"0::/docker/{WEB}/init.scope\n",
        f"0::/machine.slice/libpod-{WEB}.scope/container\n",
        f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{WEB}.scope\n",
        f"0::/kubepods/besteffort/podd7b3/{WEB}\n",
        f"0::/kubepods.slice/kubepods-pod1.slice/crio-{WEB}.scope\n",
        f"12:cpu,cpuacct:/docker/{WEB}\n11:memory:/docker/{WEB}\n0::/system.slice/docker.service\n",
        f"0::/docker/{WEB}/docker/{DB}\n",  # an engine in a container: the host's knows the outer
    ],
)
def test_the_id_of_a_container(cgroup: str) -> None:
    assert container_of(cgroup) == WEB


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/\n",
        "0::/user.slice/user-1000.slice/session-3.scope\n",
        "0::/system.slice/docker.service\n",
        f"0::/machine.slice/libpod-conmon-{WEB}.scope\n",
        f"0::/system.slice/docker-{WEB[:40]}.scope\n",
        "",
        "nonsense",
    ],
)
def test_what_is_in_no_container(cgroup: str) -> None:
    assert container_of(cgroup) is None


def test_a_service_of_the_host() -> None:
    assert unit_of("0::/system.slice/nginx.service\n") == "nginx"
    assert unit_of("0::/system.slice/system-app.slice/app@1:2.service/child\n") == "app@1:2"
    assert unit_of("1:name=systemd:/system.slice/nginx.service\n") == "nginx"
    assert unit_of("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n") is None
    assert unit_of("0::/init.scope\n") is None


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine is busy, an engine that answers may take longer than is waited for."""
    monkeypatch.setattr(engines, "ANSWER_S", 20.0)


@contextmanager
def engine(path: Path, answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[list[str]]:
    """An engine that listens there; the requests it gets."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "a Unix socket"

    with ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield asked
        finally:
            server.shutdown()


def answering(body: object, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


RUNNING = [{"Id": WEB, "Names": ["/web"]}, {"Id": DB, "Names": ["/db", "/web/db"]}]


def test_an_engine_is_asked_once_for_all_its_containers(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with engine(path, answering(RUNNING)) as asked:
        known = Engines([tmp_path / "missing.sock", path])
        assert (known.name(WEB), known.name(DB), known.name(WEB)) == ("web", "db", "web")
    assert asked == ["/containers/json"]


def test_a_container_that_no_engine_knows_has_a_short_id(tmp_path: Path) -> None:
    now = 100.0
    path = tmp_path / "docker.sock"
    with engine(path, answering(RUNNING)) as asked:
        known = Engines([path], clock=lambda: now)
        other = "f" * 64
        assert known.name(other) == "f" * 12
        assert known.name(other) == "f" * 12
        assert len(asked) == 1
        now += engines.ANSWER_S
        assert known.name(other) == "f" * 12
    assert len(asked) == 2


def test_a_new_name_is_asked_for_when_everything_is_read_again(tmp_path: Path) -> None:
    running = [{"Id": WEB, "Names": ["/web"]}]
    path = tmp_path / "docker.sock"
    with engine(path, answering(running)):
        known = Engines([path])
        assert known.name(WEB) == "web"
        running[0] = {"Id": WEB, "Names": ["/www"]}
        assert known.name(WEB) == "web"
        known.forget()
        assert known.name(WEB) == "www"


@pytest.mark.parametrize(
    "answer",
    [
        answering({"message": "no"}, 500),
        answering({"message": "what?"}),
        answering([{"Id": WEB}]),
        answering([{"Id": WEB, "Names": []}]),
        answering([1, 2]),
        lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{"),
        lambda handler: handler.wfile.write(b"\x00\xff nonsense\r\n"),
        lambda handler: handler.connection.close(),
    ],
)
def test_an_engine_that_answers_nonsense_costs_the_name_only(
    answer: Callable[[BaseHTTPRequestHandler], None], tmp_path: Path
) -> None:
    now = 100.0
    path = tmp_path / "docker.sock"
    with engine(path, answer) as asked:
        known = Engines([path], clock=lambda: now)
        assert known.name(WEB) == WEB[:12]
        now += engines.ANSWER_S
        assert known.name(WEB) == WEB[:12]
        assert len(asked) == 1  # it is left alone for a while
        now += AGAIN_S
        assert known.name(WEB) == WEB[:12]
        assert len(asked) == 2


def test_an_engine_that_is_slow_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ANSWER_S", 0.05)
    path = tmp_path / "docker.sock"
    given_up = threading.Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        given_up.wait()

    with engine(path, answer):
        assert Engines([path]).name(WEB) == WEB[:12]
        given_up.set()


def test_a_socket_that_nobody_listens_to(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with engine(path, answering(RUNNING)):
        pass
    assert Engines([path]).name(WEB) == WEB[:12]
