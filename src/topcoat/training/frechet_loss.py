"""The loss ``frechet``: the *set* of outputs towards the set of baseline images, as Gaussians of embeddings.

The Fréchet distance of two sets is the squared 2-Wasserstein distance of Gaussians (Dowson and Landau 1982). Its
gradient for one of N samples is 2/N times the way to where the optimal map puts it (Peyré and Cuturi 2019, arXiv
1803.00567, remark 2.31):

    T(e) = m_y + A (e - m_z),    A = C_z^(-1/2) (C_z^(1/2) C_y C_z^(1/2))^(1/2) C_z^(-1/2)

So pulling a batch to these points descends the distance of the whole sets, whose moments are remembered over many
batches. The embeddings are those of the net that losses may use, never the evaluation's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.training.distributed import Processes

MEMORY_IMAGES = 2_000.0
"""Half-life of the moments, in images."""
FEWEST_PER_DIMENSION = 4
"""Images for each dimension of the embedding before the moments are used."""
_RIDGE = 1e-3
"""Added to the covariance of the outputs, as a share of its mean variance: directions that are flat yet stay put."""


def embedding_of(features: object) -> Tensor:
    """The embedding ``(N, D)`` that a loss net gives besides its stages; raises `UsageError` for a net without one."""
    embedding = getattr(features, "embedding", None)
    if not isinstance(embedding, Tensor):
        raise UsageError("the loss frechet needs a loss net with an embedding; use the embedded net, or leave it out")
    return embedding


class SetMoments:
    """Means and second moments of the embeddings of outputs (z) and baseline images (y), over recent batches."""

    def __init__(self) -> None:
        self._images = 0.0
        self._moments: dict[str, Tensor] = {}
        self._pending: list[tuple[Tensor, Tensor]] = []
        """Embeddings of the step under way; a step that is skipped is not remembered."""

    def terms(self, z: Tensor, y: Tensor, processes: Processes) -> dict[str, Tensor]:
        """The loss ``frechet`` of embeddings ``(N, D)``, once enough were seen; keeps those of all processes."""
        every_z, every_y = (processes.gather(part.detach().float()).flatten(0, 1) for part in (z, y))
        self._pending.append((every_z, every_y))
        return {"frechet": self.loss(z)} if self.ready() else {}

    def forget(self) -> None:
        """Drop the embeddings of a step that was not done."""
        self._pending.clear()

    def remember(self) -> None:
        """Take in the embeddings of the step, which is done."""
        for z, y in self._pending:
            self.update(z, y)
        self._pending.clear()

    def update(self, z: Tensor, y: Tensor) -> None:
        """Take in the embeddings ``(N, D)`` of one batch; at first every image counts alike."""
        count = len(z)
        decay = min(0.5 ** (count / MEMORY_IMAGES), self._images / (self._images + count))
        self._images += count
        for name, rows in (("z", z), ("y", y)):
            rows = rows.detach().to("cpu", torch.float64)
            for moment, value in ((f"mean_{name}", rows.mean(dim=0)), (f"second_{name}", rows.T @ rows / count)):
                before = self._moments.get(moment, torch.zeros_like(value))
                self._moments[moment] = torch.lerp(value, before, decay)

    def ready(self) -> bool:
        """Whether enough images were seen."""
        mean = self._moments.get("mean_z")
        return mean is not None and self._images >= FEWEST_PER_DIMENSION * len(mean)

    def loss(self, z: Tensor) -> Tensor:
        """Mean squared way of embeddings ``(N, D)`` to their targets, in units of the baseline's total variance."""
        (mean_z, covariance_z), (mean_y, covariance_y) = self._gaussian("z"), self._gaussian("y")
        targets = transported(z.detach().to("cpu", torch.float64), mean_z, covariance_z, mean_y, covariance_y)
        variance = float(covariance_y.trace())
        return (z.float() - targets.to(z.device, torch.float32)).square().sum(dim=1).mean() / max(variance, 1e-12)

    def tensors(self) -> dict[str, Tensor]:
        """All state, for a checkpoint."""
        return {"images": torch.tensor(self._images, dtype=torch.float64), **self._moments}

    def load_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; raises `KeyError` if it does not fit."""
        self._images = float(flat["images"])
        self._moments = {name: value.clone() for name, value in flat.items() if name != "images"}

    def _gaussian(self, name: str) -> tuple[Tensor, Tensor]:
        mean = self._moments[f"mean_{name}"]
        return mean, self._moments[f"second_{name}"] - torch.outer(mean, mean)


def transported(
    embeddings: Tensor, mean_z: Tensor, covariance_z: Tensor, mean_y: Tensor, covariance_y: Tensor
) -> Tensor:
    """Where the optimal map from N(mean_z, covariance_z) to N(mean_y, covariance_y) puts ``embeddings`` ``(N, D)``."""
    dimensions = len(mean_z)
    ridge = _RIDGE * covariance_z.trace() / dimensions
    root, inverse_root = _roots(covariance_z + ridge * torch.eye(dimensions, dtype=covariance_z.dtype))
    middle, _ = _roots(root @ covariance_y @ root)
    return mean_y + (embeddings - mean_z) @ (inverse_root @ middle @ inverse_root)


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a symmetric matrix without negative eigenvalues, and the inverse of that root."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values = values.clamp_min(1e-12 * max(float(values[-1]), 1e-30))
    return (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T
