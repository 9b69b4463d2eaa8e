"""Model pairs on the Hugging Face hub: a repository with ``pair.yaml`` and a card, no weights."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from topcoat import hub
from topcoat.config import load_config
from topcoat.errors import DataError, UsageError
from topcoat.files import text_template, write_text
from topcoat.generators.base import ModelPair
from topcoat.generators.callables import is_callable
from topcoat.generators.presets import pair_as_yaml

PAIR_NAME = "pair.yaml"
CARD_NAME = "README.md"


def push_pair(pair: ModelPair, repo: str, *, private: bool = True) -> str:
    """Put the settings of ``pair`` into the repository ``owner/name``, made if it is missing; returns its address.

    Raises `UsageError` for a pair that names a folder, a file or a function, which others do not have, `ModelError` if
    the repository cannot be written.
    """
    for source in [source for spec in pair.sides.values() for source, _ in spec.sources]:
        if Path(source).exists() or hub.named(source) is None:
            raise UsageError(
                f"the pair {pair.name} names {source}, which is on this machine alone; put those weights on the "
                "hub, name their id, then push the pair"
            )
    with TemporaryDirectory() as folder:
        write_text(Path(folder) / PAIR_NAME, pair_as_yaml(pair))
        write_text(Path(folder) / CARD_NAME, pair_card(pair, repo))
        return hub.upload(Path(folder), repo, f"topcoat pair {pair.name}", private=private)


def pulled_pair(name: str) -> ModelPair:
    """The pair in the repository ``owner/name`` or ``owner/name@revision``.

    Raises `ModelError` if it cannot be loaded, `DataError` if it holds none, or one that would run a function here.
    """
    path = hub.download(name, (PAIR_NAME,), what="the model pair") / PAIR_NAME
    if not path.is_file():
        raise DataError(f"{name} holds no model pair ({PAIR_NAME}); give a repository that topcoat push wrote")
    pair = load_config(path, ModelPair)
    if any(is_callable(spec) for spec in pair.sides.values()):
        raise DataError(f"the pair {name} names a Python function, and none is run from the hub; write a spec file")
    return pair


def pair_card(pair: ModelPair, repo: str) -> str:
    """The repository's card: both models with settings, licences and how to load the pair."""
    sides = pair.sides
    free = all(spec.licence.name == "Apache-2.0" for spec in sides.values())
    models = list(dict.fromkeys(spec.model for spec in sides.values()))
    card = text_template("topcoat.generators", "card.md.j2")
    return card.render(pair=pair, repo=repo, sides=sides, free=free, models=models)
