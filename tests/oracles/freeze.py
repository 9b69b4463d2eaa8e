"""Rewrite the golden values: ``python -m tests.oracles.freeze`` (from the repository's root).

All of them by default, from the code as it is now: only where a value is *meant* to move. ``--machine`` compares the
values and adds this machine's digests alone: at a commit that is trusted, on a CPU that has none yet. Further arguments
go to pytest, such as ``-k shards``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.oracles.golden import FOLDER

if __name__ == "__main__":
    arguments = sys.argv[1:]
    os.environ["TOPCOAT_FREEZE"] = "machine" if "--machine" in arguments else "all"
    rest = [argument for argument in arguments if argument != "--machine"]
    if not arguments:
        for path in FOLDER.glob("*.json"):  # so that nothing is left of what is no longer held
            path.unlink()
    sys.exit(pytest.main([str(Path(__file__).parent), "-q", "-p", "no:cacheprovider", *rest]))
