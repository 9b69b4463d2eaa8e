"""Builds datasets of tiny fakes in processes of their own, one for each line on stdin; the crash test kills them.

A line is a folder. The answer is the process's id as soon as it has begun, and its exit status once it has ended.
Imports are paid once: each process is a fork of this one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import Any

PAIRS, BATCH_SIZE, SHARD_SIZE = 48, 3, 8


def load_fakes() -> Any:
    """The module tests/conftest.py, which imports others of this folder."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    spec = importlib.util.spec_from_file_location("fakes", Path(__file__).parent.parent / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fakes"] = module
    spec.loader.exec_module(module)
    return module


def build(fakes: Any, folder: str) -> None:
    """The build that is killed."""
    from topcoat.generators.base import ModelPair
    from topcoat.pairs import build_pairs
    from topcoat.prompts import sample_prompts

    pair = ModelPair(name="fake", distilled=fakes.fake_spec("plastic", 2), baseline=fakes.fake_spec("good", 8))
    generators = (
        fakes.FakeGenerator(pair.distilled, plastic=True),
        fakes.FakeGenerator(pair.baseline, plastic=False),
    )
    build_pairs(
        folder,
        sample_prompts(PAIRS),
        pair,
        batch_size=BATCH_SIZE,
        shard_size=SHARD_SIZE,
        generators=generators,
        filters=["blank"],
    )


def main() -> None:
    """Serve until stdin is closed."""
    fakes = load_fakes()
    from topcoat.images import encode_png
    from topcoat.pairs.filters import open_filters
    from topcoat.prompts import sample_prompts

    open_filters(["blank"])
    # what torch, Pillow and the prompts load at their first use is loaded before the forks too
    encode_png(
        fakes.FakeGenerator(fakes.fake_spec("good", 8), plastic=True).generate([sample_prompts(1)[0].text], [1])[0]
    )
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                build(fakes, line.strip())
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
