"""The page of a blind study: it says what the result says, and stands alone."""

from __future__ import annotations

import html
import re
import subprocess
import sys

import numpy as np

from tests.study.simulated import simulated_rater, small_plan
from topcoat.reports.study import headline, render_study_page, share_cell
from topcoat.study.result import StudyResult, analyse


def result_of(strengths: dict[str, float], raters: int = 40) -> StudyResult:
    plan, random = small_plan(), np.random.default_rng(0)
    own = [simulated_rater(plan, number, random, strengths=strengths) for number in range(1, raters)]
    return analyse(plan, [*own, simulated_rater(plan, raters, random, attentive=False)], deleted=2)


def test_everything_of_the_result_is_on_the_page() -> None:
    result = result_of({"distilled": 0.0, "enhanced": 1.0, "baseline": 1.0})
    page = html.unescape(render_study_page(result)).replace("\xa0", " ")
    assert headline(result) == "Preferred to distilled, not worse than the baseline"
    assert headline(result) in page
    for claim in result.claims:
        assert claim.sentence in page
    for one in (*result.comparisons, *result.groups):
        assert share_cell(one.share) in page
    assert "failed 2 of 2 attention checks" in page and "2 raters deleted their votes" in page
    assert page.count("<svg") == 3 and "385 independent votes" in page


def test_words_follow_the_verdicts() -> None:
    assert headline(result_of({"distilled": 0.0, "enhanced": -1.0, "baseline": 1.0})) == (
        "Less liked than distilled, worse than the baseline"
    )
    assert headline(analyse(small_plan(), [])) == "No votes yet"


def test_titles_are_text_and_the_page_asks_for_nothing() -> None:
    plan = small_plan().model_copy(update={"title": "<script>x</script>"})
    page = render_study_page(analyse(plan, []))
    assert "<script>" not in page and not re.search(r'(?:src|href)="(?!data:)', page)


def test_neither_result_nor_page_needs_torch() -> None:
    script = "import sys, topcoat.reports.study, topcoat.study.app\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "scipy" in loaded and not loaded & {"torch", "diffusers", "transformers", "pyarrow", "onnxruntime"}
