from __future__ import annotations

import pytest

from topcoat.generators.base import GeneratorSpec, ModelPair


@pytest.fixture(scope="session")
def specs(family_specs: dict[str, GeneratorSpec], flux_pair: ModelPair) -> dict[str, GeneratorSpec]:
    """Every family of `family_specs`, and FLUX.1."""
    return {**family_specs, "flux1": flux_pair.baseline}
