"""An engine on a fake generator and the embedded head."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import FakeGenerator
from topcoat.serving.backend import LocalBackend
from topcoat.serving.engine import Engine
from topcoat.serving.models import Models
from topcoat.serving.settings import ServeConfig


@pytest.fixture
def make_engine(fake_generators: tuple[FakeGenerator, FakeGenerator]) -> Any:
    """Makes engines, whose settings are given by name."""

    def make(**settings: Any) -> Engine:
        config = ServeConfig(**settings)
        distilled, baseline = fake_generators
        models = Models(config, {"distilled": distilled, "baseline": baseline})
        return Engine(config, LocalBackend(config, models))

    return make
