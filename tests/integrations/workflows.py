"""Example workflows of the node pack: graphs as ComfyUI's editor saves them, made into what it sends to be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))

Prompt = dict[str, dict[str, Any]]
"""Node id -> ``class_type`` and ``inputs``: a value, or a link ``[node id, output number]``."""

WIDGETS = {
    "LoadImage": ["image", "upload"],
    "SaveImage": ["filename_prefix"],
    "PreviewAny": [],
    "TopcoatLoadHead": ["name", "runtime", "tile_px", "hub_id"],
    "TopcoatEnhance": ["strength"],
    "TopcoatEnhanceGated": ["strength", "identity", "identity_floor", "never_worse"],
}
"""The inputs of each node that the editor shows as widgets, in its order: required ones first."""


def prompt_of(path: Path) -> Prompt:
    """The prompt of a workflow file; fails where a link or a widget does not fit."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    links = {link[0]: link for link in graph["links"]}
    by_id = {node["id"]: node for node in graph["nodes"]}
    prompt: Prompt = {}
    for node in graph["nodes"]:
        names = WIDGETS[node["type"]]
        assert len(node["widgets_values"]) == len(names), node["type"]
        inputs: dict[str, Any] = dict(zip(names, node["widgets_values"], strict=True))
        inputs.pop("upload", None)
        for number, socket in enumerate(node["inputs"]):
            if socket["link"] is None:
                continue
            _, source, output, target, target_input, kind = links[socket["link"]]
            assert (target, target_input) == (node["id"], number)
            slot = by_id[source]["outputs"][output]
            assert socket["link"] in slot["links"] and kind in (slot["type"], "*")
            inputs[socket["name"]] = [str(source), output]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
