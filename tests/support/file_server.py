"""A local HTTP server that serves one file, well or badly, for tests of downloads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What the server does: it sends ``content``, cut after ``cuts[i]`` bytes in answer i, or ``status`` instead."""

    content: bytes
    cuts: list[int] = field(default_factory=list)
    status: int = 200
    location: str = ""
    ranges: bool = True
    requests: list[str | None] = field(default_factory=list)  # the Range header of each
    address: str = ""


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Run the server while the block runs; ``server.address`` is its URL without a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.requests.append(asked)
            if server.status != 200:
                self.send_response(server.status)
                if server.location:
                    self.send_header("Location", server.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
            if start >= len(server.content):
                self.send_response(416)
                self.end_headers()
                return
            rest = server.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else len(rest)
            self.wfile.write(rest[:cut])
            self.close_connection = True

        def log_message(self, *words):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
