"""A real HTTP server on the loopback that behaves as badly as real ones, and counts every byte it sends."""

import hashlib
import random
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from stcln.events import Silent

STEP = 1 << 14
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Content(Protocol):
    """Bytes, or something that makes them up as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: slice) -> bytes: ...


@dataclass
class File:
    """What an address serves, and how its server is set up.

    Attributes:
        content: The bytes.
        etag, modified: Whether it tells a version so.
        ranges: Whether it knows ranges.
        chunked: Whether it hides the length.
    """

    content: Content
    etag: bool = True
    modified: bool = False
    ranges: bool = True
    chunked: bool = False
    number: int = 0

    def change(self, content: Content) -> None:
        self.content, self.number = content, self.number + 1

    @property
    def headers(self) -> dict[str, str]:
        stamp = hashlib.md5(f"{self.number}".encode()).hexdigest()
        date = formatdate(1e9 + 60 * self.number, usegmt=True)
        told = {"ETag": (self.etag, f'"{stamp}"'), "Last-Modified": (self.modified, date)}
        return {key: value for key, (tells, value) in told.items() if tells}


@dataclass
class Fault:
    """What goes wrong with one answer.

    Attributes:
        status, after: Refuse with it, and this Retry-After.
        cut: Break the line after so many bytes of the body; -1: before any answer.
        ignore: Send the whole file where a range was asked for.
        longer: Announce so many bytes more (or fewer) than there are.
        shift: Start the range so many bytes later than asked, and say so.
        flip: Send a wrong byte.
        change: Called when half of the answer is out.
    """

    status: int = 0
    after: str | None = None
    cut: int | None = None
    ignore: bool = False
    longer: int = 0
    shift: int = 0
    flip: bool = False
    change: Callable[[], None] | None = None


@dataclass(eq=False)
class Server(ThreadingHTTPServer):
    """Serves `files`; `fault` is asked before every answer.

    Attributes:
        asked: Path and Range header of every request.
        sent: Path, first byte and byte after the last of what went out of every body.
        most: Answers with a body at once; a further one is refused with 503.
        moved: Path by the path that leads to it.
        proxy_secrets: What clients told that took this for a proxy.
        pace: Seconds to wait after every STEP bytes.
    """

    files: dict[str, File] = field(default_factory=dict)
    fault: Callable[[str, int], Fault | None] = lambda path, start: None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: list[tuple[str, int, int]] = field(default_factory=list)
    most: int = 1000
    moved: dict[str, str] = field(default_factory=dict)
    proxy_secrets: set[str] = field(default_factory=set)
    pace: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads, self.under_way, self.lock = True, 0, threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, path: str, content: Content, **how: bool) -> str:
        """Serve something; its address."""
        self.files[path] = File(content, **how)
        return self.url + path

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """An answer under way."""
        with self.lock:
            self.under_way += 1
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= 1

    def bytes_sent(self, path: str) -> int:
        return sum(end - start for at, start, end in self.sent if at == path)

    def handle_error(self, *at: Any) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*at)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        file = server.files.get(self.path)
        begin = RANGE.match(wanted or "")
        fault = server.fault(self.path, int(begin[1]) if begin else 0) or Fault()
        if secret := self.headers.get("Proxy-Authorization"):
            server.proxy_secrets.add(secret)
        if server.under_way >= server.most:
            self.refuse(503, None)
        elif self.path in server.moved:
            self.refuse(302, None, {"Location": server.moved[self.path]})
        elif file is None or fault.status:
            self.refuse(fault.status if file else 404, fault.after)
        elif fault.cut == -1:
            self.hang_up()
        elif begin and file.ranges and not fault.ignore and self.unchanged(file):
            with server.one_more():
                self.part(file.content, file.headers, begin, fault)
        else:
            self.body(200, file.content, 0, len(file.content), file.headers, fault, file.chunked)

    def unchanged(self, file: File) -> bool:
        return self.headers.get("If-Range") in (None, file.headers.get("ETag"))

    def part(self, content: Content, headers: dict[str, str], asked: re.Match[str], fault: Fault) -> None:
        size = len(content)
        start = int(asked[1]) + fault.shift
        end = min(int(asked[2] or size - 1) + 1, size)
        if start >= end:
            self.refuse(416, None, {"Content-Range": f"bytes */{size}", **headers})
        else:
            headers = {"Content-Range": f"bytes {start}-{end - 1}/{size + fault.longer}", **headers}
            self.body(206, content, start, end, headers, fault, False)

    def refuse(self, status: int, after: str | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {
            "Content-Length": "0",
            **({"Retry-After": after} if after else {}),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def body(
        self, status: int, content: Content, start: int, end: int, headers: dict[str, str], fault: Fault, chunked: bool
    ) -> None:
        self.send_response(status)
        length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(end - start + fault.longer)}
        for key, value in {**headers, **length}.items():
            self.send_header(key, value)
        self.end_headers()
        stop = end if fault.cut is None else min(end, start + fault.cut)
        if fault.longer:
            self.close_connection = True
        at = start
        while at < stop:
            piece = bytes(content[at : min(at + STEP, stop)])
            if fault.flip and at == start:
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            if fault.change and at >= start + (stop - start) // 2:
                fault.change()
            self.server.sent.append((self.path, at, at + len(piece)))
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            at += len(piece)
            if self.server.pace:
                threading.Event().wait(self.server.pace)
        if stop < end:
            self.hang_up()
        elif chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def content(size: int, seed: int) -> bytes:
    """Bytes that no range of them repeats."""
    return random.Random(seed).randbytes(size)


class Told(Silent):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, object]] = []
        self.steps: list[tuple[int, int, object]] = []

    def note(self, message: str, values: object = None) -> None:
        self.notes.append((message, values))

    def progress(self, what: str, done: int, total: int, values: object = None) -> None:
        self.steps.append((done, total, values))


def twice(server: Server, path: str, size: int) -> int:
    """Bytes that went out more than once."""
    return server.bytes_sent(path) - size
