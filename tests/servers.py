"""HTTP servers on loopback: one that serves ranges, as object stores do, and one that ignores them."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        wanted = self.headers.get("Range")
        size = len(data)
        if wanted and self.server.ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            data, status = data[int(first) : int(last) + 1 if last else None], 206
        if body:
            self.server.requests.append((self.path, wanted, len(data)))
            self.server.active += 1
            self.server.most_active = max(self.server.most_active, self.server.active)
            time.sleep(self.server.delay)
            self.server.active -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{size}")
        self.end_headers()
        if body:
            self.wfile.write(data)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, ranges: bool, delay: float):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.ranges, self.delay = folder, ranges, delay
        self.requests: list[tuple[str, str | None, int]] = []
        self.active = self.most_active = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(folder: Path, *, ranges: bool = True, delay: float = 0.0) -> Iterator[Server]:
    """Serve the files of a folder; `requests` of the server lists (path, range, bytes sent)."""
    server = Server(folder, ranges, delay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
