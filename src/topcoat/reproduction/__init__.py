"""The paper's whole study in one go: pairs, heads, and what each head is worth on the same held-out subjects."""

from topcoat.reproduction.record import HeadResult, Judged, Study
from topcoat.reproduction.runs import STUDY_RUNS, StudyRun, study_runs
from topcoat.reproduction.study import Reproduction, Stage, StageResult, reproduce

__all__ = [
    "STUDY_RUNS",
    "HeadResult",
    "Judged",
    "Reproduction",
    "Stage",
    "StageResult",
    "Study",
    "StudyRun",
    "reproduce",
    "study_runs",
]
