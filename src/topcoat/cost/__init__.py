"""What an image costs: computed FLOP without weights, measured usage, and money as arithmetic on either."""

from topcoat.cost.flops import BASELINE_STEPS_BESIDE, components_of, count_flops, head_tflop, pair_cost
from topcoat.cost.measure import Hardware, Timing, hardware, summarise, timed
from topcoat.cost.money import UTILISATION, Price, Rate, gpu_seconds, price_of, rate_of
from topcoat.cost.ownership import Ownership, ownership
from topcoat.cost.plan import PairPlan, PairUsage, plan_pairs
from topcoat.cost.prices import GpuPrice, find_gpu, gpus_from_text, load_prices
from topcoat.cost.rivals import Rival, rivals
from topcoat.cost.table import CostRow, CostTable, PipelineCost, count_steps, format_tflop
from topcoat.cost.usage import Usage, measure_usage

__all__ = [
    "BASELINE_STEPS_BESIDE",
    "UTILISATION",
    "CostRow",
    "CostTable",
    "GpuPrice",
    "Hardware",
    "Ownership",
    "PairPlan",
    "PairUsage",
    "PipelineCost",
    "Price",
    "Rate",
    "Rival",
    "Timing",
    "Usage",
    "components_of",
    "count_flops",
    "count_steps",
    "find_gpu",
    "format_tflop",
    "gpu_seconds",
    "gpus_from_text",
    "hardware",
    "head_tflop",
    "load_prices",
    "measure_usage",
    "ownership",
    "pair_cost",
    "plan_pairs",
    "price_of",
    "rate_of",
    "rivals",
    "summarise",
    "timed",
]
