"""A stand-in for an object store: an HTTP server on this machine that takes its time before the first byte."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST_BYTE = 0.03  # s
_RUNNING: list[subprocess.Popen] = []


def serving(path: str) -> str:
    """Serve the folder of a file from another process, until `stop`; return the server's address."""
    process = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), os.path.dirname(path)], stdout=subprocess.PIPE, text=True
    )
    _RUNNING.append(process)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop() -> None:
    """End all servers."""
    while _RUNNING:
        process = _RUNNING.pop()
        process.terminate()
        process.wait()


class Handler(BaseHTTPRequestHandler):
    """Whole files and single byte ranges."""

    protocol_version = "HTTP/1.1"
    folder = "."

    def do_GET(self) -> None:
        """Send a file, or a range of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Say how large a file is."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        time.sleep(FIRST_BYTE)
        path = os.path.join(self.folder, os.path.basename(self.path))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        size = os.path.getsize(path)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        stop = min(size, int(wanted[2]) + 1) if wanted and wanted[2] else size
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if with_body:
            with open(path, "rb") as file:
                while start < stop:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as anybody asks for."""

    request_queue_size = 256
    daemon_threads = True


def main(folder: str) -> None:
    """Serve a folder and print the address."""
    Handler.folder = folder
    with Server(("127.0.0.1", 0), Handler) as running:
        print(f"http://127.0.0.1:{running.server_port}", flush=True)
        running.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
