"""The folder of a study.

``settings.json``       what makes this study this study; written once
``pairs/``              the training pairs
``runs/NAME/``          a run folder, which is a head folder, for each run
``images/``             generated held-out batches
``features/``           features by content, so that no image is embedded twice
``evaluation/NAME.json``  what was measured of each head
``study.json`` ``study.md`` ``study.html`` ``contact-1.png`` ...   the result
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topcoat.errors import DataError
from topcoat.files import first_difference, read_json, write_json

FORMAT = "topcoat-study"
FORMAT_VERSION = 2


class StudyFolder:
    """Where everything of a study lies; `begin` makes it this study's.

    Raises `DataError`, touching nothing, if the folder holds another study or other files.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.pairs = path / "pairs"
        self.images = path / "images"
        self.features = path / "features"
        self._about = path / "settings.json"
        self._settings = json.loads(json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **settings}))
        self._check()

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.path / "runs" / name

    def begin(self) -> None:
        """Write the settings, where they are not there yet."""
        if not self._about.exists():
            write_json(self._about, self._settings)

    def measured(self, name: str, key: Mapping[str, Any]) -> Any:
        """What `keep` was given for ``name`` with exactly ``key``, or None; a damaged file counts as none."""
        try:
            kept = read_json(self._evaluation(name))
        except DataError:
            return None
        same = isinstance(kept, dict) and kept.get("key") == json.loads(json.dumps(key))
        return kept.get("result") if same else None

    def keep(self, name: str, key: Mapping[str, Any], result: Any) -> None:
        """Keep JSON values that were measured of ``name``; ``key`` is all that decides them."""
        write_json(self._evaluation(name), {"key": key, "result": result})

    def _evaluation(self, name: str) -> Path:
        return self.path / "evaluation" / f"{name}.json"

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"{self.path} is a file; name a folder for the study")
        if self._about.exists():
            about = read_json(self._about)
            if isinstance(about, dict) and about.get("format") == FORMAT and about.get("format_version") == 1:
                raise DataError(f"{self.path} holds a study of format version 1; use another folder, or topcoat 0.1")
            difference = first_difference(about, self._settings)
            if difference is not None:
                raise DataError(
                    f"{self.path} holds a study of other settings ({difference}); nothing was changed: use another "
                    "folder, or the settings of that study"
                )
        elif self.path.is_dir() and any(not path.name.endswith(".tmp") for path in self.path.iterdir()):
            raise DataError(f"{self.path} holds files but no study; nothing was changed: use an empty folder")
