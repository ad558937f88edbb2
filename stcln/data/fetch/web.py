"""Files on the web: ranges over a pool of connections, every answer compared with the file that was opened."""

import re
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout, make_headers, parse_url

from stcln.data.fetch.line import Line, Patience, changed, given_up
from stcln.errors import BadInput

CHUNK = 1 << 18  # bytes handed on at once, at most: what has arrived is not waited on
TIMEOUT = Timeout(connect=30.0, read=60.0)  # seconds without an answer, without a byte
SPAN = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
HEADERS = {"User-Agent": "stcln", "Accept-Encoding": "identity"}


class WebSource:
    """A file at an http(s) address, as one request has found it.

    Attributes:
        size: Bytes, if the server tells.
        version: Its ETag, else when it was last modified, else empty.
        ranges: Whether the server hands out parts.

    Raises:
        BadInput: The server refuses, or stays away.
    """

    def __init__(self, url: str, line: Line) -> None:
        self.url, self.line = url, line
        try:
            first = _ask(url, {"Range": "bytes=0-0"}, line.patience(url, first=True))
        except MaxRetryError as last:
            raise given_up(url, last) from None
        with closing(first) as answer:
            _, total = _span(answer)
            self.ranges = answer.status in (206, 416) and total is not None
            self.size = total if answer.status in (206, 416) else answer.length_remaining
            self.version = _version(answer)
            if self.ranges:
                answer.drain_conn()  # one byte: the connection serves again

    def read(self, start: int, end: int | None) -> Iterator[bytes]:
        """The bytes from `start` up to `end` (None: all that come); a line that breaks is taken up where it broke.

        Raises:
            Changed: The file is no longer the one that was opened.
            BadInput: The server refuses, or stays away.
            Stopped: The line was stopped.
        """
        patience = self.line.patience(self.url)
        while end is None or start < end:
            try:
                with closing(self._answer(start, end, patience)) as answer:
                    for chunk in _chunks(answer, None if end is None else end - start):
                        self.line.arrived += 1
                        start, patience = start + len(chunk), self.line.patience(self.url)
                        yield chunk
                if end is None:
                    return
                if start < end:
                    raise ProtocolError(f"the answer ended at byte {start}, before byte {end}")
            except (HTTPError, OSError) as error:
                patience = patience.after(error)

    def _answer(self, start: int, end: int | None, patience: Patience) -> BaseHTTPResponse:
        """An answer whose next byte is byte `start` of the file that was opened."""
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if self.ranges else {}
        if self.ranges and self.version.startswith('"'):
            headers["If-Range"] = self.version
        answer = _ask(self.url, headers, patience)
        try:
            self._same(answer)
            if answer.status == 206 and _span(answer)[0] != start:
                raise ProtocolError(f"asked from byte {start}, the server answered {_span(answer)[0]}")
            if answer.status == 200 and self.ranges and start:
                raise ProtocolError("the server sent the whole file in place of a range")
            for _ in _chunks(answer, start) if answer.status == 200 else ():
                pass  # a server without ranges begins again at the front
        except BaseException:
            answer.close()
            raise
        return answer

    def _same(self, answer: BaseHTTPResponse) -> None:
        total = _span(answer)[1] if answer.status in (206, 416) else answer.length_remaining
        if self.version and (now := _version(answer)) and now != self.version:
            raise changed(self.url, f"version {self.version}, now {now}")
        if self.size is not None and total is not None and total != self.size:
            raise changed(self.url, f"{self.size} bytes, now {total}")
        if answer.status == 416:
            raise ProtocolError("the server does not have this range")


def body(url: str, line: Line) -> bytes:
    """All that an address answers.

    Raises:
        BadInput: The server refuses, or stays away.
    """
    return b"".join(WebSource(url, line).read(0, None))


def _ask(url: str, headers: dict[str, str], patience: Patience) -> BaseHTTPResponse:
    """An answer with status 200, 206 or 416; its body is still to come.

    Raises:
        BadInput: The address makes no sense, or the server refuses.
        MaxRetryError: It stays away.
    """
    try:
        pool = _pool(url)
        answer = pool.request(
            "GET", url, headers=HEADERS | headers, preload_content=False, decode_content=False, retries=patience
        )
    except ValueError as error:  # urllib3's own for an address that is none
        raise BadInput(url, str(error), "correct dataset.source") from None
    if answer.status not in (200, 206, 416):
        answer.close()
        remedy = "get access" if answer.status in (401, 403) else "correct dataset.source or dataset.files"
        raise BadInput(url, f"HTTP {answer.status} {answer.reason}", remedy)
    return answer


def _pool(url: str) -> urllib3.PoolManager:
    """The connections to use for an address: through the proxy of the environment, if it names one."""
    at = parse_url(url)
    proxy = getproxies().get(at.scheme or "") if at.host and not proxy_bypass(at.host) else None
    return _connections(proxy)


@lru_cache
def _connections(proxy: str | None) -> urllib3.PoolManager:
    if proxy:
        secret = make_headers(proxy_basic_auth=parse_url(proxy).auth)
        return urllib3.ProxyManager(proxy, proxy_headers=secret, maxsize=16, timeout=TIMEOUT)
    return urllib3.PoolManager(maxsize=16, timeout=TIMEOUT)


def _chunks(answer: BaseHTTPResponse, most: int | None) -> Iterator[bytes]:
    """What arrives, as it arrives, up to `most` bytes."""
    while (most is None or most > 0) and (chunk := answer.read1(CHUNK if most is None else min(CHUNK, most))):
        if most is not None:
            most -= len(chunk)
        yield chunk


def _span(answer: BaseHTTPResponse) -> tuple[int | None, int | None]:
    """The first byte of an answer and the bytes of the whole file, as `Content-Range` tells."""
    found = SPAN.fullmatch(answer.headers.get("Content-Range", "").strip())
    begin, total = found.groups() if found else (None, None)
    return int(begin) if begin else None, int(total) if total and total != "*" else None


def _version(answer: BaseHTTPResponse) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
