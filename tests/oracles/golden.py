"""Golden values and how they are compared: exactly, within a tolerance, or bit for bit where a CPU allows it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
SAME_MACHINE_REL = 1e-6
"""Room for another order of summation, on the machine on which the values were frozen."""
SAME_MACHINE_ABS = 1e-8


def machine() -> str:
    """What decides the last bits: instruction set, CPU model, and the libraries that compute or encode."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    found = dict(re.findall(r"^(vendor_id|cpu family|model)\s*: (.+)$", text, flags=re.MULTILINE))
    cpu = " ".join(found.get(key, "?") for key in ("vendor_id", "cpu family", "model")) if found else platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{capability}, {cpu}, torch {torch.__version__}, pillow {PIL.__version__}"


class Golden:
    """The golden values of one test file; with ``TOPCOAT_FREEZE`` set they are written instead of compared."""

    def __init__(self, topic: str) -> None:
        self._path = FOLDER / f"{topic}.json"
        self._mode = os.environ.get("TOPCOAT_FREEZE", "")
        stored = json.loads(self._path.read_text()) if self._path.is_file() else {}
        self._values: dict[str, Any] = stored.get("values", {})
        self._bits: dict[str, dict[str, Any]] = stored.get("bits", {})
        self._frozen_on: str = stored.get("frozen_on", "")
        self._new_values: dict[str, Any] = {}
        self._new_bits: dict[str, Any] = {}
        self.machine = machine()
        self.unknown_machine = False
        """Whether digests were asked for that nobody froze on this machine."""

    def exact(self, name: str, value: Any) -> None:
        """JSON values that are the same everywhere."""
        value = json.loads(json.dumps(value, allow_nan=False))
        self._new_values[name] = value
        if self._mode != "all":
            assert value == self._values[name], name

    def close(self, name: str, value: Any, *, rel: float = 1e-3, abs: float = 1e-6) -> None:
        """Nested numbers; texts, whole numbers and None are compared exactly.

        ``rel`` and ``abs`` are for other CPUs; on that of the golden values they are those of rounding.
        """
        value = json.loads(json.dumps(value, allow_nan=False))
        self._new_values[name] = value
        if self._mode == "all":
            return
        if self.machine == self._frozen_on:
            rel, abs = SAME_MACHINE_REL, SAME_MACHINE_ABS
        now, then = flat(value), flat(self._values[name])
        assert list(now) == list(then), name
        moved = [
            f"{name} {key}: {now[key]} is not {then[key]}"
            for key in then
            if not _alike(now[key], then[key], rel=rel, abs=abs)
        ]
        assert not moved, "\n".join(moved)

    def bits(self, name: str, digests: Mapping[str, str]) -> None:
        """Digests; compared where this machine's are known."""
        self._new_bits[name] = dict(digests)
        known = self._bits.get(self.machine)
        if self._mode:
            return
        if known is None:
            self.unknown_machine = True
        else:
            assert dict(digests) == known[name], name

    def save(self) -> None:
        """Write what was asked for, if golden values are being frozen."""
        if not self._mode:
            return
        if self._mode == "all":
            self._values |= self._new_values
            self._frozen_on = self.machine
            self._bits = {self.machine: self._bits.get(self.machine, {})}  # those of others are of older values
        if self._new_bits:
            self._bits[self.machine] = self._bits.get(self.machine, {}) | self._new_bits
        else:
            self._bits.pop(self.machine, None)
        stored = {"frozen_on": self._frozen_on, "values": self._values, "bits": self._bits}
        FOLDER.mkdir(exist_ok=True)
        self._path.write_text(_compact(json.dumps(stored, indent=1, ensure_ascii=False)) + "\n")


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping of dotted names."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for part, inner in parts:
        found |= flat(inner, f"{name}.{part}" if name else str(part))
    return found


def fields(record: object, *names: str, **renamed: str) -> dict[str, Any]:
    """Attributes of a record by their own names, and by others: ``fields(scores, "psnr", kid="kernel")``."""
    wanted = {name: name for name in names} | renamed
    return {ours: getattr(record, its) for ours, its in wanted.items()}


def digest_of(parts: Iterable[bytes]) -> str:
    """SHA-256 of bytes, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def digest_of_tensors(tensors: Iterable[Tensor]) -> str:
    """One digest of a set of tensors, whatever their names and order."""
    each = [
        digest_of([f"{one.dtype} {tuple(one.shape)}".encode(), one.detach().cpu().contiguous().numpy().tobytes()])
        for one in tensors
    ]
    return digest_of(line.encode() for line in sorted(each))


def sums_of_tensors(tensors: Iterable[Tensor]) -> dict[str, float]:
    """Numbers that move with any weight, whatever the names and order of the tensors."""
    values = torch.cat([one.detach().double().flatten() for one in tensors])
    return {
        "count": len(values),
        "absolute": float(values.abs().sum()),
        "norm": float(values.norm()),
        "fourth_powers": float(values.pow(4).sum() ** 0.25),
        "largest": float(values.abs().max()),
    }


def projections(images: Tensor, count: int = 4) -> dict[str, Any]:
    """Mean, spread and ``count`` seeded random projections, each the size of a pixel: they move with any of them."""
    values = images.detach().double().flatten()
    directions = torch.randn(count, len(values), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = (values - values.mean()) @ (directions / directions.norm(dim=1, keepdim=True)).T
    return {
        "shape": list(images.shape),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "seen": seen.tolist(),
    }


def _alike(now: Any, then: Any, *, rel: float, abs: float) -> bool:
    if isinstance(then, float) and isinstance(now, (int, float)):
        return math.isclose(now, then, rel_tol=rel, abs_tol=abs)
    return now == then


def _compact(text: str) -> str:
    """Lists of numbers on one line."""
    return re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)
