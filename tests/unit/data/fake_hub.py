"""A hub of one data set on this machine: as much of the hub's interface as a download needs."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def parquet(texts: list[str]) -> bytes:
    """A parquet file with a column of texts."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file)
    return file.getvalue()


def nobody() -> str:
    """An address at which nothing answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def serve(
    dataset: str,
    files: Mapping[str, bytes],
    *,
    failures: int = 0,
    requests: list[str] | None = None,
) -> Iterator[str]:
    """Serve `files` (path in the repository: content); yields the address.

    Args:
        dataset: ``owner/name``.
        files: what it holds.
        failures: how many requests for a part of a file are answered with an error first.
        requests: takes the path and the range of each request for the content of a file.
    """

    class Handler(_Handler):
        repository = dataset
        contents = files
        left_to_fail = failures
        asked = requests if requests is not None else []

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
    left_to_fail: int
    asked: list[str]
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
        part = self.headers.get("Range")
        if self.command == "GET":
            self.asked.append(f"{name} {part}")
        if part is not None and self.left_to_fail:
            type(self).left_to_fail -= 1
            self._send(503, b"", {})
            return
        if part is not None:
            start, stop = (int(end) for end in part.removeprefix("bytes=").split("-"))
            stop = min(stop, len(content) - 1)
            where = {"Content-Range": f"bytes {start}-{stop}/{len(content)}"}
            self._send(206, content[start : stop + 1], where)
            return
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
