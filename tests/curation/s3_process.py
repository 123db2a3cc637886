"""Run as a process: an S3 server on loopback, or a proxy before one that is unavailable for a while.

    python s3_process.py server PORT
    python s3_process.py proxy PORT SERVER_PORT FIRST LAST [WORD STATUS] ...

The proxy answers 503 SlowDown to its requests number FIRST to LAST, STATUS to those with WORD in their path, and passes
all others on.
"""

import http.client
import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}


def serve(port: int) -> None:
    from moto.server import ThreadedMotoServer

    ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False).start()
    threading.Event().wait()


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, but for those of some numbers."""

    def __init__(self, port: int, server_port: int, first: int, last: int, refused: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.backend_port, self._first, self._last = server_port, first, last
        self._refused = refused
        self._numbers, self._lock = itertools.count(1), threading.Lock()

    def refusal(self, path: str) -> int | None:
        """Counts a request; the status with which it is refused."""
        with self._lock:
            is_away = self._first <= next(self._numbers) <= self._last
        return 503 if is_away else next((status for word, status in self._refused.items() if word in path), None)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self) -> None:
        body = self._body()
        status = self.server.refusal(self.path)
        if status is not None:
            self._reply(status, [("Content-Type", "application/xml")], _SLOW_DOWN if status == 503 else b"")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.backend_port)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_HEADERS]
        self._reply(response.status, kept, data, response.getheader("Content-Length"))
        connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes, length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", (self.command == "HEAD" and length) or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def proxy(port: str, server_port: str, first: str, last: str, *refused: str) -> None:
    statuses = dict(zip(refused[::2], map(int, refused[1::2]), strict=True))
    Proxy(int(port), int(server_port), int(first), int(last), statuses).serve_forever()


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    if kind == "server":
        serve(int(given[0]))
    else:
        proxy(*given)
