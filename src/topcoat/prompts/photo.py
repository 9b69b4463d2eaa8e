"""Prompts of the photo style, for real models: a sentence on a person with an invented name and a balanced look."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from topcoat.prompts.clip import CLIP_TOKENS, clip_tokens
from topcoat.prompts.names import FileNames, InventedNames
from topcoat.prompts.prompt import Prompt, check_count_and_seed
from topcoat.prompts.stratified import Fits, StratifiedSampler
from topcoat.prompts.templates import Template, read_templates
from topcoat.prompts.vocabulary import Vocabulary, read_vocabulary


def sample_photo_prompts(
    count: int,
    seed: int = 0,
    *,
    vocabulary: Vocabulary | None = None,
    templates: tuple[Template, ...] | None = None,
    names: InventedNames | FileNames | None = None,
) -> list[Prompt]:
    """``count`` prompts for real models; the first ``n`` are the same for every ``count >= n``.

    Attributes are balanced within one at any count, and independent but for the combinations that the vocabulary calls
    implausible; ``age`` (years) is balanced within its band, ``locale`` within its region. ``attributes`` hold what the
    sentence says. Ids carry the seed, the position and a digest of the text.

    A sentence of more than CLIP's 77 tokens is shortened until it fits: the attributes in the vocabulary's ``shorten``
    stand by their words alone, then an invented name without the family name, then those attributes are left out where
    the sentence has them in a condition. The packaged sentences always fit then; others may not.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative, or where the rules leave a subject no word.
    """
    check_count_and_seed(count, seed)
    vocabulary = vocabulary or read_vocabulary()
    templates = templates or read_templates(None, vocabulary)
    names = names or InventedNames(seed)
    subjects = _Subjects(vocabulary, seed)
    numbers = tuple(str(number) for number in range(len(templates)))
    prompts = []
    for index in range(count):
        template = templates[int(subjects.sampler.sample("template", numbers, index))]
        words = subjects.words(index)
        locale = subjects.locale(words["region"], index)
        values = {
            "name": names.name(index, vocabulary.given_names[words["presentation"]], locale),
            "age": subjects.age(words["age_band"], index),
            **words,
            **({"locale": locale} if names.follows_locale else {}),
        }
        text, values = _sentence(template, vocabulary, values)
        recorded = template.fields | {"age_band"} | ({"locale"} if "name" in template.fields else set[str]())
        attributes = {name: word for name, word in values.items() if name in recorded}
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        prompts.append(Prompt(id=f"photo-{seed:04d}-{index:08d}-{digest}", text=text, attributes=attributes))
    return prompts


def _sentence(template: Template, vocabulary: Vocabulary, values: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """The sentence in the fullest form that CLIP reads whole, or the shortest there is, and the values that it has."""
    text = ""
    for form, phrases in _forms(template, vocabulary, values):
        text, values = template.render(phrases), form
        if clip_tokens(text) <= CLIP_TOKENS:
            break
    return text, values


def _forms(
    template: Template, vocabulary: Vocabulary, values: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], Mapping[str, str]]]:
    """A subject's values, and how they are phrased: first in full, then shorter and shorter."""
    phrases = {name: vocabulary.phrase(name, word) for name, word in values.items()}
    yield values, phrases
    phrases |= {name: values[name] for name in vocabulary.shorten if name in values}
    yield values, phrases
    if "locale" in values:  # an invented name; one from a file is left whole
        given = {"name": values["name"].split()[0]}
        values, phrases = {**values, **given}, phrases | given
        yield values, phrases
    left_out = template.optional & {*vocabulary.shorten}
    kept = [name for name in values if name not in left_out]
    yield {name: values[name] for name in kept}, {name: phrases[name] for name in kept}


class _Subjects:
    """Samples the attributes of the subjects of one seed; every value follows from its position alone."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.sampler = StratifiedSampler(seed, "photo ")
        self._vocabulary = vocabulary
        self._fits = {name: self._fits_of(name) for name in vocabulary.attributes}

    def words(self, index: int) -> dict[str, str]:
        """The words of every attribute that the subject at ``index`` has."""
        vocabulary = self._vocabulary
        words: dict[str, str] = {}
        for name, values in vocabulary.attributes.items():
            condition = vocabulary.only_for.get(name)
            if condition is None:
                words[name] = self._word(name, index)
                continue
            owner, wanted = next(iter(condition.items()))
            if words[owner] == wanted:
                # the owner's round has the wanted word once, so rounds count the subjects that have it
                words[name] = self.sampler.sample(name, values, index // len(vocabulary.attributes[owner]))
        return words

    def age(self, band: str, index: int) -> str:
        """A year of the band."""
        low, high = band.split("-")
        years = tuple(str(year) for year in range(int(low), int(high) + 1))
        return self.sampler.sample(f"year of {band}", years, index // len(self._vocabulary.attributes["age_band"]))

    def locale(self, region: str, index: int) -> str:
        """A locale of the region."""
        locales, regions = self._vocabulary.locales[region], self._vocabulary.attributes["region"]
        return self.sampler.sample(f"locale of {region}", locales, index // len(regions))

    def _word(self, name: str, index: int) -> str:
        return self.sampler.sample(name, self._vocabulary.attributes[name], index, self._fits[name])

    def _fits_of(self, name: str) -> Fits | None:
        """Whether a word of ``name`` goes with the attributes before it at a position; None where any word does."""
        order = list(self._vocabulary.attributes)
        before = set(order[: order.index(name)])
        implausible = self._vocabulary.implausible
        rules = [rule for rule in implausible if name in rule.when and rule.when.keys() - {name} <= before]

        def fits(index: int, word: str) -> bool:
            return not any(
                word in rule.when[name]
                and all(self._word(other, index) in words for other, words in rule.when.items() if other != name)
                for rule in rules
            )

        return fits if rules else None
