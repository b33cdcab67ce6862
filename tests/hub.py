"""A Hugging Face hub on loopback: one dataset repository over a folder, as far as its file system client asks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from answers import Answer, AnswerServer, Question

NO_ENTRY = Answer(404, {"X-Error-Code": "EntryNotFound"}, b"")


@dataclass
class Hub(AnswerServer):
    """Serves `folder` as `datasets/me/scenes`, revision `main`. Use as a context manager.

    Attributes:
        token: without it nothing is answered; "" for a public repository.
        seen: (method, path, Range) of each request.
    """

    folder: Path
    token: str = ""
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)

    def reply(self, question: Question) -> Answer:
        path, span = unquote(urlsplit(question.target).path), question.headers.get("Range")
        self.seen.append((question.method, path, span))
        allowed = not self.token or question.headers.get("Authorization") == f"Bearer {self.token}"
        return self._answer(path, span) if allowed else Answer(401, {}, b"")

    def nbytes(self, suffix: str) -> int:
        """Bytes of files of this suffix that were asked for."""
        spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", span or "") for _, path, span in self.seen if path.endswith(suffix)]
        return sum(int(span[2]) - int(span[1]) + 1 for span in spans if span)

    def _answer(self, path: str, span: str | None) -> Answer:
        if re.fullmatch(r"/api/datasets/me/scenes(/revision/main)?", path):
            return _json({"id": "me/scenes", "sha": "0" * 40, "siblings": [], "tags": [], "private": False})
        if found := re.fullmatch(r"/api/datasets/me/scenes/tree/main/?(.*)", path):
            folder = self.folder / found[1]
            return _json([self._entry(one) for one in sorted(folder.iterdir())]) if folder.is_dir() else NO_ENTRY
        if found := re.fullmatch(r"/datasets/me/scenes/resolve/main/(.*)", path):
            file = self.folder / found[1]
            return _ranged(file.read_bytes(), span) if file.is_file() else NO_ENTRY
        return Answer(404, {"X-Error-Code": "RepoNotFound"}, b"")

    def _entry(self, path: Path) -> dict[str, Any]:
        name = path.relative_to(self.folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}


def _json(record: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(record).encode())


def _ranged(body: bytes, span: str | None) -> Answer:
    headers = {"ETag": '"x"', "Accept-Ranges": "bytes"}
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", span or "")
    if not found:
        return Answer(200, headers, body)
    start, stop = int(found[1]), int(found[2]) + 1 if found[2] else len(body)
    part = body[start:stop]
    headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
    return Answer(206, headers, part)
