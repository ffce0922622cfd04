"""A toy server with OpenAI's chat completions: it says what it is told to, and keeps what it was asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.running import running


class Toy(ThreadingHTTPServer):
    """answer: (status, body or an object, headers) of the next answers; requests: (path, json) of all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.text: object = "A cat."
        self.raw: tuple[int, bytes, dict[str, str]] | None = None
        self.requests: list[tuple[str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Toy

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(None, {"data": [{"id": "toy-8b"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(asked, {"choices": [{"message": {"content": self.server.text}}]})

    def _answer(self, asked: object, said: object) -> None:
        self.server.requests.append((self.path, asked))
        status, body, headers = self.server.raw or (200, json.dumps(said).encode(), {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def toy_chat() -> Iterator[Toy]:
    with running(Toy()) as server:
        yield server
