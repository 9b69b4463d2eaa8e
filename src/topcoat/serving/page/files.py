"""The files behind the page: uploads and results, in a folder of the server's own that ends with it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"
"""Where gradio reads the folder of its own files."""
_RESULTS, _KEPT = "results", "kept"
_UNSAFE = re.compile(r"[^\w.\- ]+")
_LONGEST_NAME = 80


class PageFiles:
    """A temporary folder: gradio puts uploads into it, and `write` results, by session."""

    def __init__(self) -> None:
        """Make the folder, and tell gradio of it."""
        self.folder = Path(tempfile.mkdtemp(prefix="topcoat-page-")).resolve()
        os.environ[FOLDER_VARIABLE] = str(self.folder)
        self._kept: set[Path] = set()
        self._uploads: dict[str | None, set[Path]] = {}

    def write(self, session: str | None, name: str, content: bytes) -> Path:
        """A result of a session under a name that is safe, in a folder of its own that cannot be guessed."""
        folder = self._of(session) / secrets.token_urlsafe(12)
        folder.mkdir(parents=True)
        path = folder / (_UNSAFE.sub("_", Path(name).name).strip(". ")[-_LONGEST_NAME:] or "picture")
        path.write_bytes(content)
        return path

    def keep(self, name: str, content: bytes) -> Path:
        """A file that stays as long as the server."""
        path = self.write(_KEPT, name, content)
        self._kept.add(path)
        return path

    def remove(self, paths: Iterable[str | Path]) -> None:
        """Remove files of this folder, with the folders that they alone were in; others are left alone."""
        for path in map(Path, paths):
            if self.holds(path):
                shutil.rmtree(path.parent, ignore_errors=True)

    def holds(self, path: str | Path) -> bool:
        """Whether a path lies in a folder below this one, whatever links or dots it has."""
        resolved = Path(path).resolve()
        return self.folder in resolved.parent.parents

    def hold(self, session: str | None, uploads: Iterable[Path]) -> None:
        """Note which uploads a session has now, and remove those that no session has any more.

        gradio names an upload by its content, so that one file may be that of two sessions.
        """
        before, self._uploads[session] = self._uploads.get(session, set()), set(uploads)
        self.remove(before - set().union(*self._uploads.values()))

    def end_session(self, session: str | None) -> None:
        """Remove the results of a session, and its uploads."""
        self.hold(session, ())
        del self._uploads[session]
        shutil.rmtree(self._of(session), ignore_errors=True)

    def remove_older(self, seconds: float) -> None:
        """Remove files that were not touched for so long: of pages whose end was not heard of."""
        limit = time.time() - seconds
        for path in sorted(self.folder.rglob("*"), reverse=True):
            try:
                if path in self._kept:
                    continue
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()
                elif path.is_dir() and path.stat().st_mtime < limit:
                    path.rmdir()
            except OSError:
                continue  # in use, not empty, or gone

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if os.environ.get(FOLDER_VARIABLE) == str(self.folder):
            del os.environ[FOLDER_VARIABLE]

    def _of(self, session: str | None) -> Path:
        return self.folder / _RESULTS / (_UNSAFE.sub("", session or "") or "nobody")
