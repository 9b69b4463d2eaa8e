"""What GPUs can do and cost: a dated, sourced table, the embedded one or a user's own."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import pydantic

from topcoat.config import StrictModel, parse_config, read_mapping
from topcoat.errors import UsageError

EMBEDDED = Path(__file__).with_name("prices.toml")
"""The table of this package."""


class GpuPrice(StrictModel):
    """One kind of GPU: its dense bf16 peak, its price for an hour, and where and when both were read."""

    name: str = pydantic.Field(min_length=1)
    bf16_tflops: float = pydantic.Field(gt=0)
    """TFLOP/s of dense bf16 matrix products, without sparsity."""
    bf16_source: str = pydantic.Field(min_length=1)
    usd_per_hour: float = pydantic.Field(gt=0)
    usd_source: str = pydantic.Field(min_length=1)
    date: datetime.date

    @property
    def cited(self) -> str:
        """The price with its source and day, for print."""
        return f"{self.usd_per_hour:g} USD per hour (cited: {self.usd_source}, {self.date.isoformat()})"


class _PriceFile(StrictModel):
    gpus: dict[str, GpuPrice] = pydantic.Field(min_length=1)


def load_prices(path: Path | None = None) -> Mapping[str, GpuPrice]:
    """GPU name -> price, from a TOML, YAML or JSON file of the layout of ``prices.toml``; None takes the embedded one.

    Raises `UsageError` with one sentence for a file that cannot be read or lacks a source, a price or a date.
    """
    source = EMBEDDED if path is None else path
    return parse_config(read_mapping(source), _PriceFile, source=str(source)).gpus


def find_gpu(name: str, prices: Mapping[str, GpuPrice]) -> GpuPrice:
    """The GPU called ``name`` in ``prices``; raises `UsageError` that lists the known ones."""
    found = prices.get(name.lower())
    if found is None:
        raise UsageError(
            f"no GPU is called {name!r} in the price table; use one of: {', '.join(prices)}, or add it to a file of "
            "your own (--prices)"
        )
    return found


def gpus_from_text(text: str) -> tuple[str, int]:
    """``"h100:8"`` as ``("h100", 8)``, ``"h100"`` as ``("h100", 1)``; raises `UsageError` for another form."""
    name, colon, count = text.partition(":")
    if not name or (colon and not (count.isdecimal() and int(count) > 0)):
        raise UsageError(f"GPUs {text!r} cannot be read; write a name and a number such as h100:8")
    return name, int(count) if colon else 1
