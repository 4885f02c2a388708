"""An HTTP proxy in front of an S3 server that fails on purpose, as its plan says, request by request."""

import http.client
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit


class Fault(Enum):
    """What happens to a request."""

    ERROR = "500 InternalError, the request is not passed on"
    SLOW_DOWN = "503 SlowDown, the request is not passed on"
    RESET = "the connection is reset, the request is not passed on"
    LOST = "the request is passed on, and the connection is reset instead of an answer"
    TRUNCATE = "the body ends before the length that the headers promise"
    SHORTEN = "the body is cut in half and the headers agree with it"
    ALTER = "one byte of the body is another one, each time a different one"
    DELAY = "the answer comes a quarter of a second late"


@dataclass(frozen=True)
class Refusal:
    """An error answer with a code of the test's choice."""

    status: int
    code: str


Plan = Callable[[str, str], Fault | Refusal | None]
"""(method, path with query) -> what happens to the request."""


@dataclass
class FaultProxy:
    """The proxy's plan, and what it did."""

    upstream: str
    url: str = ""
    plan: Plan = lambda method, path: None
    done: list[tuple[str, str, Fault | Refusal | None]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def decide(self, method: str, path: str) -> Fault | Refusal | None:
        with self.lock:
            fault = self.plan(method, path)
            self.done.append((method, path, fault))
            return fault

    def faults(self) -> list[Fault | Refusal]:
        return [fault for _, _, fault in self.done if fault is not None]


def seeded(seed: int, share: float, faults: list[Fault]) -> Plan:
    """Fail a share of the requests, each time with one of the faults."""
    generator = random.Random(seed)
    return lambda method, path: generator.choice(faults) if generator.random() < share else None


@contextmanager
def running(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy on a free port."""
    proxy = FaultProxy(upstream)
    handler = type("ProxyHandler", (_Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield proxy
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.decide(self.command, self.path)
        match fault:
            case Fault.ERROR:
                self.refuse(Refusal(500, "InternalError"))
            case Fault.SLOW_DOWN:
                self.refuse(Refusal(503, "SlowDown"))
            case Refusal():
                self.refuse(fault)
            case Fault.RESET:
                self.reset()
            case _:
                self.pass_on(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

    def pass_on(self, body: bytes, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fault is Fault.LOST:
            self.reset()
            return
        if fault is Fault.DELAY:
            time.sleep(0.25)
        # Only bodies of objects: what S3 answers otherwise is XML, which does not parse when it is cut.
        if fault is Fault.ALTER and answer.status in (200, 206) and content:
            at = random.randrange(len(content))
            content = content[:at] + bytes([content[at] ^ random.randrange(1, 256)]) + content[at + 1 :]
        if fault is Fault.SHORTEN:
            content = content[: len(content) // 2]
        self.answer(answer, content, cut=fault is Fault.TRUNCATE)

    def answer(self, answer: http.client.HTTPResponse, content: bytes, *, cut: bool) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if answer.status != 204 and length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    def refuse(self, refusal: Refusal) -> None:
        content = f"<Error><Code>{refusal.code}</Code><Message>on purpose</Message></Error>".encode()
        self.send_response_only(refusal.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.wfile = self.rfile = open("/dev/null", "r+b", buffering=0)  # noqa: SIM115

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests read `done`."""
