"""Write what every preset pair needs of a GPU's memory into docs/real-models.md; computed without weights or a GPU.

    python benchmarks/memory.py

Writes a section between its two marker lines. `topcoat doctor --pair NAME --vram GIB` says the same for one pair.
"""

from __future__ import annotations

from pathlib import Path

from sections import write_section

from topcoat.cost.memory import Memory, pair_memory
from topcoat.generators.base import OFFLOADS
from topcoat.generators.presets import PRESETS, model_pair
from topcoat.pairs.build import DEFAULT_BATCH_SIZE

GPUS_GIB = (12, 16, 24, 48, 80)
GIB = 2**30
BEGIN, END = "<!-- memory: begin (benchmarks/memory.py) -->", "<!-- memory: end -->"
PAGE = Path(__file__).parent.parent / "docs" / "real-models.md"


def rows_of(name: str, memory: Memory) -> list[str]:
    """A line of the table for each way of offloading."""
    lines = []
    for offload in OFFLOADS:
        batches = [memory.largest_batch(offload, gpu * GIB, DEFAULT_BATCH_SIZE) for gpu in GPUS_GIB]
        cells = [f"{memory.weight_bytes / GIB:.1f}", f"{memory.needed_bytes(offload) / GIB:.1f}"]
        lines.append(f"| `{name}` | `{offload}` | {' | '.join([*cells, *(str(size or '-') for size in batches)])} |")
    return lines


def main() -> None:
    """Compute the table and write it."""
    pairs = [model_pair(name) for name in PRESETS if name != "mini"]
    header = " | ".join(f"{gpu} GiB" for gpu in GPUS_GIB)
    lines = [
        f"| pair | offload | weights, GiB | one image, GiB | {header} |",
        f"|---|---|{'---:|' * (2 + len(GPUS_GIB))}",
        *(line for pair in pairs for line in rows_of(pair.name, pair_memory(pair))),
    ]
    write_section(PAGE, BEGIN, END, "\n".join(lines), title="# Real models")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
