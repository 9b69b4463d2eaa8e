"""A head's own network, run by torch: on the GPU where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from topcoat import __version__
from topcoat.heads.network import LatentHeadConfig
from topcoat.memory import is_out_of_memory
from topcoat.runtime.record import HeadRecord

if TYPE_CHECKING:
    from topcoat.heads.head import Head


class TorchSession:
    """See `topcoat.runtime.runner.Session`; the network's weights lie channels-last."""

    def __init__(self, head: Head, name: str, threads: int = 0) -> None:
        """``threads`` 0 leaves torch's own number."""
        if threads:
            torch.set_num_threads(threads)
        computed_in = str(head.dtype).removeprefix("torch.")
        self.record = record_of(head, name).model_copy(update={"precision": computed_in})
        self._head = head.to("cuda" if torch.cuda.is_available() else "cpu")
        self.name = f"torch ({self._head.device.type.upper()})"

    def run(self, inputs: np.ndarray, strength: float) -> np.ndarray:
        """See `topcoat.runtime.runner.Session`."""
        try:
            return self._head(torch.from_numpy(inputs), strength).numpy()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise


def record_of(head: Head, name: str) -> HeadRecord:
    """What an ONNX file of ``head`` says of it, before anything is measured; ``name`` is what a person calls it."""
    config = head.config
    latent = isinstance(config, LatentHeadConfig)
    scale = config.scale if latent else 1
    return HeadRecord(
        name=name,
        kind=head.kind,
        input=head.input,
        digest=head.digest,
        licence=_licence(head),
        channels=config.latent_channels if latent else 3,
        scale=scale,
        size_multiple=config.size_multiple // scale,
        smallest=config.smallest_px // scale,
        value_range=None if latent else (0.0, 1.0),
        has_strength=head.has_strength,
        halo_px=config.halo_px,
        gates=head.gates,
        software=f"topcoat {__version__}, torch {torch.__version__}",
    )


def _licence(head: Head) -> str:
    licences = head.facts.get("licences")
    if not isinstance(licences, dict) or not licences:
        return "not recorded"
    return "; ".join(f"{side}: {terms['name']} ({terms['url']})" for side, terms in licences.items())
