"""A stand-in for the part of ComfyUI that the node pack meets, written after its published V3 interface.

ComfyUI is in no package registry. The names, the arguments and what they must hold are those of ``comfy_api.latest``
and of the loader and executor of ComfyUI 0.3.64; what is not there is refused, so a misspelt argument fails here too.
Where a checkout is at hand, ``test_comfyui.py`` runs the same pack in the real one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

_INPUT = {"id", "display_name", "optional", "tooltip", "lazy", "extra_dict", "raw_link"}
_WIDGET = _INPUT | {"default", "socketless", "force_input"}
_NUMBER = _WIDGET | {"min", "max", "step", "display_mode"}
_INPUTS = {
    "IMAGE": _INPUT,
    "MASK": _INPUT,
    "BOOLEAN": _WIDGET | {"label_on", "label_off"},
    "INT": _NUMBER | {"control_after_generate"},
    "FLOAT": _NUMBER | {"round"},
    "STRING": _WIDGET | {"multiline", "placeholder", "dynamic_prompts"},
    "COMBO": _WIDGET | {"options", "control_after_generate", "upload", "image_folder", "remote"},
}
_OUTPUT = {"id", "display_name", "tooltip", "is_output_list"}
_SCHEMA = {"node_id", "display_name", "category", "inputs", "outputs", "hidden", "description", "is_input_list"}
_SCHEMA |= {"is_output_node", "is_deprecated", "is_experimental", "is_api_node", "not_idempotent", "enable_expand"}


def _type(io_type: str, known: set[str]) -> Any:
    def made(allowed: set[str]) -> Any:
        def put(id: str | None = None, **given: Any) -> Any:
            assert set(given) <= allowed, f"{io_type} has no {set(given) - allowed}"
            return SimpleNamespace(io_type=io_type, **dict.fromkeys(allowed) | {"id": id} | given)

        return put

    return SimpleNamespace(io_type=io_type, Input=made(known), Output=made(_OUTPUT))


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args


class ComfyNode:
    @classmethod
    def GET_SCHEMA(cls) -> Any:
        schema = cls.define_schema()  # pyright: ignore[reportAttributeAccessIssue]
        ids = [item.id for item in schema.inputs]
        assert None not in ids and len(set(ids)) == len(ids)
        parameters = list(inspect.signature(cls.execute).parameters)  # pyright: ignore[reportAttributeAccessIssue]
        assert set(parameters) == set(ids), "ComfyUI calls execute with the ids of the inputs"
        return schema


class ComfyExtension:
    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError


def _schema(**given: Any) -> Any:
    assert set(given) <= _SCHEMA
    return SimpleNamespace(**dict.fromkeys(_SCHEMA) | given)


@contextmanager
def comfyui(models: Path) -> Iterator[Any]:
    """Make ``import comfy_api.latest`` and what else the pack imports work, with ``models`` as ComfyUI's folder."""
    folders: dict[str, list[str]] = {}
    kinds = {name.capitalize(): _type(name, known) for name, known in _INPUTS.items()}
    own = {"Schema": _schema, "ComfyNode": ComfyNode, "NodeOutput": NodeOutput, "NumberDisplay": NumberDisplay}
    io = SimpleNamespace(Custom=lambda name: _type(name, _INPUT), **kinds, **own)
    bar = SimpleNamespace(done=0)

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total, bar.done = total, 0

        def update(self, value: int) -> None:
            bar.done += value
            assert bar.done <= self.total

    def add(name: str, path: str) -> None:
        folders.setdefault(name, []).append(path)

    stand_ins: dict[str, dict[str, Any]] = {
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy_api": {},
        "comfy_api.latest": {"ComfyExtension": ComfyExtension, "io": io},
        "folder_paths": {
            "models_dir": str(models),
            "add_model_folder_path": add,
            "get_folder_paths": lambda name: folders[name],
        },
    }
    before = set(sys.modules)
    for name, members in stand_ins.items():
        sys.modules[name] = module = ModuleType(name)
        module.__dict__.update(members)
    try:
        yield bar
    finally:
        for name in set(sys.modules) - before:
            if name in stand_ins or name.startswith("topcoat_pack"):
                del sys.modules[name]


def load_custom_node(folder: Path) -> dict[str, Any]:
    """The nodes of a pack, by id, as ComfyUI's loader finds them."""
    spec = importlib.util.spec_from_file_location("topcoat_pack", folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    sys.modules["topcoat_pack"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def nodes() -> list[type[ComfyNode]]:
        extension = await module.comfy_entrypoint()
        assert isinstance(extension, ComfyExtension)
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(nodes())}


def run(prompt: dict[str, dict[str, Any]], nodes: dict[str, Any], image: Path) -> dict[str, Any]:
    """What each node of a prompt gives (what SaveImage and PreviewAny are given), by node id."""
    results: dict[str, Any] = {}

    def value(given: Any) -> Any:
        return result_of(given[0])[given[1]] if isinstance(given, list) else given

    def result_of(node_id: str) -> Any:
        if node_id not in results:
            kind = prompt[node_id]["class_type"]
            inputs = {name: value(given) for name, given in prompt[node_id]["inputs"].items()}
            if kind == "LoadImage":
                pixels = np.asarray(Image.open(image), dtype=np.float32) / 255
                results[node_id] = (torch.from_numpy(pixels)[None], torch.zeros(1, 64, 64))
            elif kind in ("SaveImage", "PreviewAny"):
                (results[node_id],) = (inputs[name] for name in ("images", "source") if name in inputs)
            else:
                results[node_id] = _called(nodes[kind], inputs)
        return results[node_id]

    with torch.inference_mode():
        return {node_id: result_of(node_id) for node_id in prompt}


def _called(node: Any, inputs: dict[str, Any]) -> tuple[Any, ...]:
    schema = node.GET_SCHEMA()
    for item in schema.inputs:
        assert item.id in inputs or item.optional, f"{schema.node_id} needs {item.id}"
        if item.io_type == "COMBO":
            assert inputs[item.id] in item.options
    outputs = node.execute(**inputs).args
    assert len(outputs) == len(schema.outputs)
    assert all(isinstance(one, list) for one, item in zip(outputs, schema.outputs, strict=True) if item.is_output_list)
    return outputs
