"""A hub of one data set on this machine: as much of the hub's interface as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(dataset: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve `files` (path in the repository: content); yields the address."""

    class Handler(_Handler):
        repository = dataset
        contents = files

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    repository: str
    contents: Mapping[str, bytes]
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        wanted = json.loads(body)["paths"] if body.startswith("{") else []
        self._json([e for e in self._tree("", recursive=True) if e["path"] in wanted])

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        api, resolve = f"/api/datasets/{self.repository}", f"/datasets/{self.repository}/resolve/"
        if path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            self._json(self._tree(folder, recursive="recursive=True" in address.query))
        elif path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name} for name in self.contents]
            self._json({"id": self.repository, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(resolve):
            self._file(path.removeprefix(resolve).partition("/")[2])
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _tree(self, folder: str, *, recursive: bool) -> list[dict[str, object]]:
        start = f"{folder}/" if folder else ""
        files = {n: c for n, c in self.contents.items() if n.startswith(start)}
        parents = {
            n[: i + len(start)] for n in files for i, c in enumerate(n[len(start) :]) if c == "/"
        }
        entries: list[dict[str, object]] = [
            {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
            for parent in sorted(parents)
        ]
        entries += [
            {"type": "file", "path": name, "oid": _etag(content), "size": len(content)}
            for name, content in files.items()
        ]
        return [e for e in entries if recursive or "/" not in str(e["path"])[len(start) :]]

    def _file(self, name: str) -> None:
        if name not in self.contents:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        content = self.contents[name]
        self._send(200, content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
