"""Serve a folder as the Hugging Face hub does: the parts of its API that reading asks for.

The answers have the form that `huggingface_hub` 2.4 reads: `GET /api/models/ID[/revision/REV]`,
`POST .../paths-info/REV`, `GET .../tree/REV[/FOLDER]` and `GET /ID/resolve/REV/FILE` with ranges.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_COMMIT = "c" * 40
_REVISIONS = ("main", "v1.0", _COMMIT)


@dataclass
class Hub:
    """A running stand-in; `repositories` names a folder for `models/user/name` and the like."""

    repositories: dict[str, Path]
    url: str = ""
    status: int = 200
    requests: list[str] = field(default_factory=list)


def _entry(root: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": sha1(name.encode()).hexdigest()}
    content = path.read_bytes()
    return {
        "type": "file",
        "path": name,
        "size": len(content),
        "oid": sha1(content).hexdigest(),
    }


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def _missing(self, code: str) -> None:
        self._answer(404, b'{"error":"not found"}', X_Error_Code=code, X_Error_Message=code)

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = self.rfile.read(length) if length else b""
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.hub.status != 200:
            return self._answer(self.hub.status, b'{"error":"made to fail"}')
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            return self._api(parts[1:], asked)
        kind = parts.pop(0) if parts[0] in ("datasets", "spaces") else "models"
        root = self.hub.repositories.get(f"{kind}/{'/'.join(parts[:2])}")
        if root is None:
            return self._missing("RepoNotFound")
        if parts[3] not in _REVISIONS:
            return self._missing("RevisionNotFound")
        file = root.joinpath(*parts[4:])
        if not file.is_file():
            return self._missing("EntryNotFound")
        return self._file(file.read_bytes())

    def _file(self, content: bytes) -> None:
        about = {"ETag": '"e"', "X_Repo_Commit": _COMMIT, "Accept_Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if not wanted:
            return self._answer(200, content, **about)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        about["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
        return self._answer(206, content[start : end + 1], **about)

    def _api(self, parts: list[str], asked: bytes) -> None:
        root = self.hub.repositories.get("/".join(parts[:3]))
        if root is None:
            return self._missing("RepoNotFound")
        rest = parts[3:]
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in _REVISIONS:
            return self._missing("RevisionNotFound")
        match rest[:1]:
            case [] | ["revision"]:
                files = [p for p in root.rglob("*") if p.is_file()]
                siblings = [{"rfilename": p.relative_to(root).as_posix()} for p in files]
                return self._json(
                    {"id": "/".join(parts[1:3]), "sha": _COMMIT, "siblings": siblings}
                )
            case ["paths-info"]:
                paths = self._paths(asked)
                found = [root / path for path in paths]
                return self._json([_entry(root, path) for path in found if path.exists()])
            case ["tree"]:
                folder = root.joinpath(*rest[2:])
                if not folder.is_dir():
                    return self._missing("EntryNotFound")
                deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower()
                inside = folder.rglob("*") if deep in ("true", "1") else folder.iterdir()
                return self._json([_entry(root, path) for path in sorted(inside)])
        return self._missing("EntryNotFound")

    def _paths(self, asked: bytes) -> list[str]:
        if (self.headers.get("Content-Type") or "").startswith("application/json"):
            found = json.loads(asked)["paths"]
        else:
            found = parse_qs(asked.decode())["paths"]
        return [found] if isinstance(found, str) else found

    do_GET = do_POST = do_HEAD = _handle


@contextmanager
def serve_hub(**repositories: Path) -> Iterator[Hub]:
    """Serve folders on a free port of this machine; `models__user__name` stands for an id."""
    hub = Hub({name.replace("__", "/"): folder for name, folder in repositories.items()})
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
