"""Money: dated prices of GPUs, the seconds that they take, plans of pairs and total cost of ownership.

All of it is arithmetic on usage, which itself knows no prices.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from topcoat.config import StrictModel, parse_config, read_mapping
from topcoat.cost.flops import pair_cost
from topcoat.cost.table import CostTable, Kind, PipelineCost, format_bytes
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import ModelPair

EMBEDDED_PRICES = Path(__file__).with_name("prices.toml")
UTILISATION = 0.4
"""Share of a GPU's dense bf16 peak that these networks reach, where no time was measured: an assumption, stated."""
PNG_BYTES_PER_PIXEL = 1.8
"""Assumed size of a lossless image, where none was measured: 60 % of the 3 bytes of a raw RGB pixel."""
TRAINING_PASSES = 3
"""Forward and backward of the head for one image seen, in forward passes; loss nets and adversary are not counted."""
HOUR_SECONDS = 3600.0


class GpuPrice(StrictModel):
    """One kind of GPU: its dense bf16 peak, its price for an hour, and where and when both were read."""

    name: str = pydantic.Field(min_length=1)
    bf16_tflops: float = pydantic.Field(gt=0)
    """TFLOP/s of dense bf16 matrix products, without sparsity."""
    bf16_source: str = pydantic.Field(min_length=1)
    usd_per_hour: float = pydantic.Field(gt=0)
    usd_source: str = pydantic.Field(min_length=1)
    date: datetime.date


class _PriceFile(StrictModel):
    gpus: dict[str, GpuPrice] = pydantic.Field(min_length=1)


def load_prices(path: Path | None = None) -> Mapping[str, GpuPrice]:
    """GPU name -> price, from a TOML, YAML or JSON file of the layout of ``prices.toml``; None takes the embedded one.

    Raises `UsageError` with one sentence for a file that cannot be read or lacks a source, a price or a date.
    """
    source = EMBEDDED_PRICES if path is None else path
    return parse_config(read_mapping(source), _PriceFile, source=str(source)).gpus


def find_gpu(name: str, prices: Mapping[str, GpuPrice]) -> GpuPrice:
    """The GPU called ``name`` in ``prices``; raises `UsageError` that lists the known ones."""
    if name.lower() not in prices:
        raise UsageError(
            f"no GPU is called {name!r} in the price table; use one of: {', '.join(prices)}, or add it to a file of "
            "your own (--prices)"
        )
    return prices[name.lower()]


def gpus_from_text(text: str) -> tuple[str, int]:
    """``"h100:8"`` as ``("h100", 8)``, ``"h100"`` as ``("h100", 1)``; raises `UsageError` for another form."""
    name, colon, count = text.partition(":")
    if not name or (colon and not (count.isdecimal() and int(count) > 0)):
        raise UsageError(f"GPUs {text!r} cannot be read; write a name and a number such as h100:8")
    return name, int(count) if colon else 1


@dataclass(frozen=True, slots=True)
class Rate:
    """What an hour of one GPU costs, who says so, and for computed seconds which GPU that is."""

    usd_per_hour: float
    source: str
    gpu: GpuPrice | None = None
    utilisation: float = UTILISATION
    """Share of the GPU's peak."""

    def __post_init__(self) -> None:
        if not self.usd_per_hour > 0:
            raise UsageError(f"{self.usd_per_hour:g} USD per hour is not a price; use more than 0")
        if not 0 < self.utilisation <= 1:
            raise UsageError(f"utilisation {self.utilisation:g} is not possible; use more than 0 and at most 1")

    @property
    def known_gpu(self) -> GpuPrice:
        """The GPU; raises `UsageError` where none was named."""
        if self.gpu is None:
            raise UsageError("the speed is unknown; name a GPU of the price table, such as h100")
        return self.gpu

    def seconds(self, tflop: float) -> float:
        """Seconds of the GPU for ``tflop`` at its share of the peak; raises `UsageError` without a GPU."""
        return tflop / (self.known_gpu.bf16_tflops * self.utilisation)

    def usd(self, seconds: float) -> float:
        """Money for seconds of one GPU."""
        return seconds / HOUR_SECONDS * self.usd_per_hour

    def image(self, name: str, steps: int, seconds: float, kind: Kind) -> dict[str, Any]:
        """What an image of a pipeline takes and costs, ready for JSON and for a table."""
        usd = self.usd(seconds)
        row = {"name": name, "steps": steps, "seconds": seconds, "seconds_kind": kind}
        return {**row, "usd": usd, "usd_per_million": usd * 1e6}


def rate_of(gpu: GpuPrice | None, usd_per_hour: float | None, utilisation: float | None = None) -> Rate:
    """The price that was given, or the table's for ``gpu``; raises `UsageError` where there is neither."""
    share = UTILISATION if utilisation is None else utilisation
    if usd_per_hour is not None:
        return Rate(usd_per_hour, "given", gpu, share)
    if gpu is None:
        raise UsageError("no price was given; name a GPU of the table (--price h100) or give --usd-per-hour")
    return Rate(gpu.usd_per_hour, f"cited: {gpu.usd_source}, {gpu.date.isoformat()}", gpu, share)


def computed_prices(tables: Sequence[CostTable], rate: Rate) -> list[dict[str, Any]]:
    """`Rate.image` of every pipeline in tables of one pair at several step counts of the distilled model, each once."""
    costs: dict[PipelineCost, None] = {}
    for table in tables:
        costs |= dict.fromkeys([table.distilled, table.enhanced] if table.head_tflop else [table.enhanced])
    return [
        rate.image(cost.name, cost.steps, rate.seconds(cost.tflop), "computed")
        for cost in (*costs, *tables[0].baseline_at)
    ]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a bill: how much of what, and where it comes from."""

    label: str
    value: float | None
    """None: it is never reached."""
    unit: str
    """Empty for a plain number."""
    kind: Kind
    source: str = ""

    @property
    def text(self) -> str:
        """The value for a person."""
        if self.value is None:
            return "never"
        if self.unit == "bytes":
            return format_bytes(self.value)
        digits = {"USD": ",.2f", "": ",.0f", "TFLOP": ",.4g"}.get(self.unit, ",.3g")
        return f"{self.value:{digits}} {self.unit}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON and for a table."""
        return {**dataclasses.asdict(self), "text": self.text}


Bill = dict[str, Figure]
"""Figures by key, in the order in which a table shows them."""


@dataclass(frozen=True, slots=True)
class PairUsage:
    """What one pair takes: usage alone, no prices."""

    tflop: float | None
    """Computed: both models, whole pipelines; None for a model of unknown sizes."""
    gpu_seconds: Figure | None
    """None where neither a GPU nor a measurement says how fast it goes."""
    disk_bytes: Figure


def pair_tflop(pair: ModelPair, distilled_steps: Sequence[int] = (), *, baseline: bool = True) -> float | None:
    """TFLOP of one pair with further step counts of the distilled model; None for a model of unknown sizes.

    Without ``baseline`` those of the distilled images alone.
    """
    try:
        table = pair_cost(pair)
    except ModelError:
        return None
    further = [table.distilled.at_steps(steps).tflop for steps in distilled_steps if steps != pair.distilled.steps]
    return table.distilled.tflop + (table.baseline.tflop if baseline else 0.0) + sum(further)


def computed_usage(pair: ModelPair, tflop: float | None, rate: Rate | None) -> PairUsage:
    """Usage by counting: bytes from `PNG_BYTES_PER_PIXEL`; seconds, with ``rate``, from a share of its GPU's peak."""
    size = 2 * pair.distilled.width_px * pair.distilled.height_px * PNG_BYTES_PER_PIXEL
    source = f"{PNG_BYTES_PER_PIXEL:g} bytes a pixel (assumed), two lossless images a pair"
    disk = Figure("disk", size, "bytes", "computed", source)
    if rate is None or tflop is None:
        return PairUsage(tflop, None, disk)
    gpu, seconds = rate.known_gpu, rate.seconds(tflop)
    how = f"{rate.utilisation:.0%} (assumed) of {gpu.bf16_tflops:g} TFLOP/s dense bf16, cited: {gpu.bf16_source}"
    return PairUsage(tflop, Figure("seconds", seconds, "seconds", "computed", how), disk)


def plan_pairs(pairs: int, usage: PairUsage, rate: Rate | None, gpu_name: str, gpus: int) -> Bill:
    """What a dataset takes before any of it is spent; raises `UsageError` for no pairs.

    What is not known is left out: TFLOP of a model of unknown sizes, hours without a speed, money without ``rate``.
    """
    if pairs < 1:
        raise UsageError(f"{pairs} pairs cannot be planned; use 1 or more")
    bill = {
        "pairs": Figure("pairs", pairs, "", "given"),
        "images": Figure("images", 2 * pairs, "", "computed"),
    }
    if usage.tflop is not None:
        source = f"{usage.tflop:,.4g} for each pair, whole pipelines of both models"
        bill["tflop"] = Figure("TFLOP", pairs * usage.tflop, "TFLOP", "computed", source)
    if usage.gpu_seconds is not None:
        hours = pairs * (usage.gpu_seconds.value or 0) / HOUR_SECONDS
        bill["gpu_hours"] = dataclasses.replace(usage.gpu_seconds, label="GPU-hours", value=hours, unit="hours")
        bill["wall_hours"] = Figure(f"hours on the clock, {gpus} x {gpu_name}", hours / gpus, "hours", "computed")
        if rate is not None:
            source = f"{rate.usd_per_hour:g} USD per GPU-hour, {rate.source}; storage is not included"
            bill["usd"] = Figure("USD", hours * rate.usd_per_hour, "USD", "computed", source)
    disk = pairs * (usage.disk_bytes.value or 0)
    return bill | {"disk_bytes": dataclasses.replace(usage.disk_bytes, value=disk)}


def total_cost(table: CostTable, rate: Rate, *, images_per_month: int, pairs: int, training_images: int) -> Bill:
    """Total cost of ownership of ``table``'s distilled + head, against its baseline at the table's default steps.

    Raises `UsageError` for counts below 1 (pairs and training images may be 0: the head exists already).
    """
    if images_per_month < 1:
        raise UsageError(f"{images_per_month} images per month are not possible; use 1 or more")
    if pairs < 0 or training_images < 0:
        raise UsageError(f"{pairs} pairs and {training_images} training images are not possible; use 0 or more")

    def usd(label: str, tflop: float, source: str = "") -> Figure:
        return Figure(label, rate.usd(rate.seconds(tflop)), "USD", "computed", source)

    enhanced, baseline = table.enhanced, table.baseline
    training = training_images * TRAINING_PASSES * table.head_tflop
    building = pairs * (table.distilled.tflop + baseline.tflop)
    year = 12 * images_per_month
    saved = baseline.tflop - enhanced.tflop
    payback = None if saved <= 0 else math.ceil((building + training) / saved)
    months = None if payback is None else payback / images_per_month
    passes = f"{TRAINING_PASSES} passes of the head for each image seen; loss nets are not counted"
    named = f"{baseline.name}, {baseline.steps} steps"
    return {
        "images_per_month": Figure("images a month", images_per_month, "", "given"),
        "pairs": Figure("pairs", pairs, "", "given"),
        "training_images": Figure("images seen in training", training_images, "", "given"),
        "pairs_usd": usd("building the pairs, once", building),
        "training_usd": usd("training, once", training, passes),
        "million_usd": usd("a million images, distilled + head", 1e6 * enhanced.tflop),
        "baseline_million_usd": usd(f"a million images, {named}", 1e6 * baseline.tflop),
        "year_usd": usd("12 months, distilled + head, all included", building + training + year * enhanced.tflop),
        "baseline_year_usd": usd("12 months, baseline alone", year * baseline.tflop),
        "payback_images": Figure("images until it has paid off", payback, "", "computed"),
        "payback_months": Figure("months until it has paid off", months, "months", "computed"),
    }
