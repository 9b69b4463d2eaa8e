"""The same bits whatever batch: some operations are done image by image within a batch.

Libraries choose another kernel, and so another order of additions, for another number of rows; and transcendental
functions round differently at the ends of a vector, which lie elsewhere in a batch. On a CPU the other operations of a
network give each image the same bits in any batch. So a batch saves their overhead, while these, which a CPU does no
faster for many images, run alone. What remains different is found by `topcoat.serving.models.Models.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_SMALLEST_RANK: Mapping[Callable[..., Any], int] = {
    functional.linear: 2,
    functional.conv2d: 4,
    functional.silu: 2,
    functional.gelu: 2,
    torch.sigmoid: 2,
    torch.tanh: 2,
}
"""Operations, and the rank of their first argument from which its first axis is that of images."""


class ImageByImage(TorchFunctionMode):
    """Within it, the operations named above see one image at a time, on the current thread."""

    def __init__(self, images: int) -> None:
        """``images`` is the size of the batch; guidance doubles it."""
        super().__init__()
        self._counts = (images, 2 * images)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `TorchFunctionMode`."""
        named = kwargs or {}
        rank = _SMALLEST_RANK.get(func)
        if rank is None or not args or not isinstance(given := args[0], Tensor):
            return func(*args, **named)
        if given.ndim < rank or len(given) == 1 or len(given) not in self._counts:
            return func(*args, **named)
        return torch.cat([func(part, *args[1:], **named) for part in given.split(1)])
