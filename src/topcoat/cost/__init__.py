"""What an image costs: computed FLOP without weights, and measured seconds."""

from topcoat.cost.architectures import ARCHITECTURES, Architecture
from topcoat.cost.flops import BASELINE_STEPS_BESIDE, components_of, count_flops, head_tflop, pair_cost
from topcoat.cost.measure import Hardware, Timing, hardware, summarise, timed
from topcoat.cost.table import CostRow, CostTable, PipelineCost, count_steps, format_tflop

__all__ = [
    "ARCHITECTURES",
    "BASELINE_STEPS_BESIDE",
    "Architecture",
    "CostRow",
    "CostTable",
    "Hardware",
    "PipelineCost",
    "Timing",
    "components_of",
    "count_flops",
    "count_steps",
    "format_tflop",
    "hardware",
    "head_tflop",
    "pair_cost",
    "summarise",
    "timed",
]
