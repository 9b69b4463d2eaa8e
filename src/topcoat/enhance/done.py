"""How a second run knows what is done: by the record in a result, or by a list beside results without one."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path

from topcoat.errors import DataError
from topcoat.pictures.metadata import metadata_of
from topcoat.pictures.provenance import job_of
from topcoat.pictures.reading import open_picture, read_bytes

NAME = ".topcoat-enhanced.jsonl"


def job_in_file(path: Path) -> str | None:
    """The job that a result says it is of; None where it says nothing, or is no picture. Its pixels are not read."""
    try:
        data = read_bytes(path)
        with open_picture(data, str(path)) as picture:
            return job_of(metadata_of(picture, data).xmp)
    except DataError:
        return None


class DoneFiles:
    """The lists ``.topcoat-enhanced.jsonl``, one in each output folder: results without a record of their own.

    A line is ``{"name", "job", "bytes"}``; a result of another size is another file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: dict[Path, dict[str, tuple[str, int]]] = {}

    def job_of(self, path: Path) -> str | None:
        """The job of the result at ``path``, None where none is noted or the file is another one by now."""
        with self._lock:
            noted = self._list(path.parent).get(path.name)
        return noted[0] if noted is not None and noted[1] == path.stat().st_size else None

    def add(self, path: Path, job: str) -> None:
        """Note that the file at ``path`` is the result of ``job``; raises `DataError` if that cannot be written."""
        if not path.is_file():  # standard output
            return
        with self._lock:
            size = path.stat().st_size
            self._list(path.parent)[path.name] = job, size
            try:
                with open(path.parent / NAME, "a", encoding="utf-8") as file:
                    file.write(json.dumps({"name": path.name, "job": job, "bytes": size}) + "\n")
            except OSError as error:
                raise DataError(f"cannot write {path.parent / NAME} ({error.strerror}); check the folder") from error

    def _list(self, folder: Path) -> dict[str, tuple[str, int]]:
        if folder not in self._lists:
            noted: dict[str, tuple[str, int]] = {}
            try:
                lines = (folder / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                lines = []
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # a line that a crash cut off: that file is done again
                    entry = json.loads(line)
                    noted[entry["name"]] = entry["job"], entry["bytes"]
            self._lists[folder] = noted
        return self._lists[folder]
