"""A head as an ONNX graph: images or latents (and a strength) in, enhanced images out, with any batch and size."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topcoat.heads.network import ImageNetwork, Network
from topcoat.heads.refiner import RefinerConfig
from topcoat.runtime.record import ENHANCED, METADATA_KEY, HeadRecord
from topcoat.runtime.torch_session import record_of

if TYPE_CHECKING:
    from topcoat.heads.head import Head


class _Graph(nn.Module):
    """What the file computes. A network of 16 bits is given 16 bits; inputs and output are float32 in any case."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, inputs: Tensor, strength: Tensor | None = None) -> Tensor:
        given = inputs.to(self.dtype)
        if isinstance(self.network, ImageNetwork):  # of whole multiples, so there is nothing to pad
            enhanced = inputs + strength * self.network(given).float()
        elif strength is None:
            enhanced = self.network.enhance(given).float()
        else:
            enhanced = self.network.enhance(given, strength.to(self.dtype)).float()  # pyright: ignore[reportArgumentType]
        return enhanced.clamp(0, 1)


def graph_record(head: Head, name: str) -> HeadRecord:
    """The record of a graph of ``head``: as `record_of`, with what an inner network pads taken into the multiple."""
    record = record_of(head, name)
    latent = head.config.latent_part
    if latent is None:
        return record
    multiple = math.lcm(record.size_multiple, 2 ** (len(latent.channels) - 1))
    if isinstance(head.config, RefinerConfig):
        multiple = math.lcm(multiple * latent.vae_scale, head.config.painter.size_multiple)
    smallest = -(-record.smallest // multiple) * multiple
    return record.model_copy(update={"size_multiple": multiple, "smallest": smallest})


def write_graph(head: Head, record: HeadRecord, path: Path) -> None:
    """Write the graph of ``head`` in the record's precision, float32 or float16, and the record, as ONNX."""
    dtype = torch.float16 if record.precision == "float16" else torch.float32
    network = head.network if dtype == torch.float32 else copy.deepcopy(head.network).to(dtype)
    multiple = record.size_multiple
    least = max(2, -(-record.smallest // multiple))
    batch = torch.export.Dim("n", min=1, max=63)  # diffusers treats 64 and more apart; the file has no such limit
    rows, columns = (torch.export.Dim(name, min=least) for name in "hw")
    example = torch.rand(2, record.channels, (least + 1) * multiple, (least + 2) * multiple)
    shape = {0: batch, 2: multiple * rows, 3: multiple * columns}
    given, shapes = (example,), (shape,)
    if record.has_strength:
        given, shapes = (example, torch.tensor(1.0)), (shape, {})
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Graph(network.cpu(), dtype).eval(),
            given,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=record.inputs,
            output_names=[ENHANCED],
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():  # where in which file each was made: of no use, and of this machine
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    program.model.metadata_props[METADATA_KEY] = record.model_dump_json()
    program.model.doc_string = f"topcoat head {record.name}"
    program.save(path, external_data=False)


def write_record(path: Path, record: HeadRecord) -> None:
    """Replace the record in an ONNX file."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=record.model_dump_json())
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress, advice and warnings are for the authors of networks, not for a user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
