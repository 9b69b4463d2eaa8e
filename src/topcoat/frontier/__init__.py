"""The frontier: quality against cost of every setting, and the cheapest one that is good enough."""

from topcoat.frontier.chosen import PipelineConfig, save_choice
from topcoat.frontier.pareto import choose, pareto_front
from topcoat.frontier.settings import Setting, settings_of
from topcoat.frontier.sweep import Frontier, Point, sweep

__all__ = [
    "Frontier",
    "PipelineConfig",
    "Point",
    "Setting",
    "choose",
    "pareto_front",
    "save_choice",
    "settings_of",
    "sweep",
]
