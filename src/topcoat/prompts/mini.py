"""The mini style: the vocabulary that the embedded mini pair was trained on, and its prompts."""

from __future__ import annotations

from collections.abc import Mapping

from topcoat.errors import UsageError
from topcoat.prompts.prompt import Prompt, check_count_and_seed
from topcoat.prompts.sampler import StratifiedSampler

VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "age": ("young", "middle-aged", "old"),
    "gender": ("woman", "man"),
    "skin": ("pale", "fair", "olive", "tan", "brown", "dark"),
    "hair_length": ("short", "shoulder-length", "long", "bald"),
    "hair_texture": ("straight", "wavy", "curly"),
    "hair_color": ("black", "brown", "blond", "red", "grey", "white"),
    "eyes": ("brown", "green", "blue", "grey"),
    "facial_hair": ("none", "stubble", "beard"),
    "freckles": ("none", "freckles"),
    "glasses": ("none", "glasses"),
    "expression": ("neutral expression", "gentle smile", "broad smile"),
    "clothing_color": ("white", "black", "grey", "red", "blue", "green", "yellow"),
    "garment": ("shirt", "sweater"),
    "light_tone": ("warm", "white", "cool"),
    "light_side": ("left", "right", "front"),
    "background": ("dark", "grey", "white", "blue", "green", "beige"),
}
"""Every attribute of a mini prompt, with its words."""


def sample_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """``count`` balanced prompts of the mini vocabulary; the first ``n`` are the same for every ``count >= n``.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative.
    """
    check_count_and_seed(count, seed)
    sampler = StratifiedSampler(seed)
    prompts = []
    for index in range(count):
        words = _words_at(sampler, index)
        prompts.append(Prompt(id=f"{seed:04d}-{index:08d}", text=_sentence(words), attributes=words))
    return prompts


def check_words(attributes: Mapping[str, str]) -> None:
    """Raise `UsageError` for an unknown word of attributes that are those of a mini prompt; others may hold any."""
    if attributes.keys() != VOCABULARY.keys():
        return
    for name, allowed in VOCABULARY.items():
        if attributes[name] not in allowed:
            raise UsageError(
                f"portrait attribute {name}={attributes[name]!r} is unknown; use one of: {', '.join(allowed)}"
            )


def _words_at(sampler: StratifiedSampler, index: int) -> dict[str, str]:
    """One portrait; a word that another rules out (a woman's beard, grey hair of the young) is sampled again."""
    words = {name: sampler.sample(name, values, index) for name, values in VOCABULARY.items()}
    if words["gender"] == "woman":
        words["facial_hair"] = "none"
        if words["hair_length"] == "bald":
            lengths = ("short", "shoulder-length", "long")
            words["hair_length"] = sampler.sample("hair_length of a woman", lengths, index)
    elif words["hair_length"] == "shoulder-length":
        words["hair_length"] = "short"
    if words["age"] == "young" and words["hair_color"] in ("grey", "white"):
        words["hair_color"] = sampler.sample("hair_color of the young", ("black", "brown", "blond", "red"), index)
    return words


def _sentence(words: Mapping[str, str]) -> str:
    """The prompt's text, for example ``studio portrait of a young woman, fair skin, long wavy red hair, ...``."""
    hair = f"{words['hair_length']} {words['hair_texture']} {words['hair_color']} hair"
    parts = (
        f"studio portrait of {'an' if words['age'][0] in 'aeiou' else 'a'} {words['age']} {words['gender']}",
        f"{words['skin']} skin",
        "bald" if words["hair_length"] == "bald" else hair,
        f"{words['eyes']} eyes",
        words["facial_hair"],
        words["freckles"],
        words["glasses"],
        words["expression"],
        f"{words['clothing_color']} {words['garment']}",
        f"{words['light_tone']} light from the {words['light_side']}",
        f"{words['background']} background",
    )
    return ", ".join(part for part in parts if part != "none")
