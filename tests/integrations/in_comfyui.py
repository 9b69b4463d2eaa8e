"""Run by ComfyUI's own Python in its folder: the node pack through ComfyUI's loader, workflows through its executor.

    python in_comfyui.py JOB.json

The job holds ``pack`` (a folder), ``inputs`` and ``outputs`` (ComfyUI's folders), ``models``, and ``prompts``. The last
line of standard output is JSON: the ``nodes`` of the pack with their inputs and outputs, and for each prompt its
``errors`` (of the check before the run and of the run) and what its nodes showed.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, ".")
JOB = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
sys.argv = ["main.py", "--cpu"]

import comfy.options  # noqa: E402 - of ComfyUI's folder

comfy.options.enable_args_parsing()

import execution  # noqa: E402
import folder_paths  # noqa: E402
import nodes  # noqa: E402


class Server:
    """Stands where ComfyUI's web server does."""

    client_id = None
    last_node_id = None

    def send_sync(self, *_: Any) -> None: ...


async def run() -> dict[str, Any]:
    folder_paths.set_input_directory(JOB["inputs"])
    folder_paths.set_output_directory(JOB["outputs"])
    folder_paths.models_dir = JOB["models"]
    own = set(nodes.NODE_CLASS_MAPPINGS)
    assert await nodes.load_custom_node(JOB["pack"])
    pack = {name: nodes.NODE_CLASS_MAPPINGS[name] for name in set(nodes.NODE_CLASS_MAPPINGS) - own}
    assert await nodes.load_custom_node("comfy_extras/nodes_preview_any.py", module_parent="comfy_extras")
    done = []
    executor = execution.PromptExecutor(Server())
    for number, prompt in enumerate(JOB["prompts"]):
        valid, error, outputs, node_errors = await execution.validate_prompt(str(number), prompt, None)
        errors = [] if valid else [str(error), str(node_errors)]
        shown = {}
        if valid:
            await executor.execute_async(prompt, str(number), {}, outputs)
            errors += [data["exception_message"] for event, data in executor.status_messages if event.endswith("error")]
            shown = executor.history_result["outputs"]
        done.append({"errors": errors, "shown": shown})
    about = {
        name: {"inputs": node.INPUT_TYPES(), "outputs": list(node.RETURN_TYPES), "lists": list(node.OUTPUT_IS_LIST)}
        for name, node in pack.items()
    }
    return {"nodes": about, "prompts": done}


print("\n" + json.dumps(asyncio.run(run()), default=str))
