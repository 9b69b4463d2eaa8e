"""Training state on disk: safetensors for tensors, JSON for counters, both renamed into place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from topcoat.files import atomic_path, write_json


def save_state(
    folder: Path,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    counters: dict[str, float],
) -> None:
    """Write everything a run needs to go on; the previous state stays until the new one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"optimizer/{name}/{index}/{slot}"] = torch.as_tensor(value)
    tensors["counters"] = torch.tensor(list(counters.values()), dtype=torch.float64)
    with atomic_path(folder / "state.safetensors") as path:
        save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, path)
    write_json(folder / "state.json", counters)


def load_state(
    folder: Path,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
) -> dict[str, float]:
    """Restore what `save_state` wrote and return its counters; an empty mapping where there is nothing yet."""
    path = folder / "state.safetensors"
    if not path.exists():
        return {}
    tensors = load_file(path)
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"module/{name}/"))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Any]] = {}
        for key, value in _below(tensors, f"optimizer/{name}/").items():
            index, slot = key.split("/")
            state.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    names = json.loads((folder / "state.json").read_text())
    return dict(zip(names, tensors["counters"].tolist(), strict=True))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
