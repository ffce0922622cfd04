"""A small server on 127.0.0.1 that speaks both hubs' protocols, with faults on request.

Hugging Face: /api/models/REPO?blobs=true lists; /REPO/resolve/REVISION/PATH serves (HEAD, GET with Range).
ModelScope: /api/v1/models/REPO/repo/files lists; /api/v1/models/REPO/repo?FilePath=PATH serves.
"""

import hashlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.running import running

LFS_SUFFIXES = (".safetensors", ".bin", ".model")
COMMIT = "c0ffee" + "0" * 34


class HubServer(ThreadingHTTPServer):
    """repos: "owner/name" -> path -> content. Faults, by path:

    breaks: how many bytes of the next answers are sent before the connection is cut, one number per answer.
    resets: as breaks, but the connection is reset rather than closed.
    old: commit -> repository -> path -> content, for requests that name a revision; the newest is COMMIT, or `main`.
    lies: content that is sent instead of the listed one. hidden: listed, but not found.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.old: dict[str, dict[str, dict[str, bytes]]] = {}
        self.commit = COMMIT
        self.breaks: dict[str, list[int]] = {}
        self.resets: dict[str, list[int]] = {}
        self.lies: dict[str, bytes] = {}
        self.hidden: set[str] = set()
        self.sent: dict[str, int] = {}  # bytes of content sent, by path
        self.ranges: list[tuple[str, int]] = []  # path and first byte of every answer that resumes

    def shutdown_request(self, request: object) -> None:
        """Close without the farewell that would turn a reset into an ordinary end."""
        self.close_request(request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[HubServer]:
    """A running server, gone at the end."""
    with running(HubServer()) as server:
        yield server


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        url = urlsplit(self.path)
        parts, query = unquote(url.path).strip("/").split("/"), parse_qs(url.query)
        if parts[:3] == ["api", "v1", "models"] and parts[5:] == ["repo", "files"]:
            self._list_modelscope("/".join(parts[3:5]), query.get("Root", [""])[0])
        elif parts[:3] == ["api", "v1", "models"] and parts[5:] == ["repo"]:
            self._send_file("/".join(parts[3:5]), query["FilePath"][0], body)
        elif parts[:2] == ["api", "models"]:
            self._list_hugging_face("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        elif len(parts) > 4 and parts[2] == "resolve":
            self._send_file("/".join(parts[:2]), "/".join(parts[4:]), body, parts[3])
        else:
            self._missing("RepoNotFound")

    def _list_hugging_face(self, repo: str, revision: str) -> None:
        files = self.server.old.get(revision, self.server.repos)
        if repo not in files:
            return self._missing("RepoNotFound")
        siblings = []
        for path, content in files[repo].items():
            item = {"rfilename": path, "size": len(content), "blobId": _git_sha1(content)}
            if path.endswith(LFS_SUFFIXES):
                item["lfs"] = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(item)
        self._send_json(
            {
                "id": repo,
                "modelId": repo,
                "sha": self.server.commit if revision == "main" else revision,
                "siblings": siblings,
            }
        )

    def _list_modelscope(self, repo: str, root: str) -> None:
        if repo not in self.server.repos:
            return self._missing("RepoNotFound")
        files = [
            {"Path": path, "Size": len(content), "Sha256": _sha256(content), "Type": "blob"}
            for path, content in self.server.repos[repo].items()
            if path.startswith(root)
        ]
        self._send_json({"Code": 200, "Success": True, "Data": {"Files": files}})

    def _send_file(self, repo: str, path: str, body: bool, revision: str = "main") -> None:
        content = self.server.old.get(revision, self.server.repos).get(repo, {}).get(path)
        if content is None or path in self.server.hidden:
            return self._missing("EntryNotFound")
        tag = _sha256(content) if path.endswith(LFS_SUFFIXES) else _git_sha1(content)
        content = self.server.lies.get(path, content)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if first and body:
            self.server.ranges.append((path, first))
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        for name, value in (("ETag", f'"{tag}"'), ("X-Repo-Commit", COMMIT), ("Content-Length", len(content) - first)):
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self._send_body(path, content[first:])

    def _send_body(self, path: str, content: bytes) -> None:
        breaks, resets = self.server.breaks.get(path), self.server.resets.get(path)
        if breaks or resets:
            content = content[: (breaks or resets)[0]]
            self.close_connection = True
        self.server.sent[path] = self.server.sent.get(path, 0) + len(content)
        self.wfile.write(content)
        if breaks:
            breaks.pop(0)
        elif resets:
            resets.pop(0)
            time.sleep(0.3)  # a reset discards what the other side has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send_json(self, data: dict) -> None:
        content = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
