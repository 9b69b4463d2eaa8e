"""Prompts of the photo style, for real models: a sentence on a person with an invented name and a balanced look."""

from __future__ import annotations

import hashlib

from topcoat.prompts.deck import Deck, Fits
from topcoat.prompts.names import InventedNames, Names
from topcoat.prompts.prompt import Prompt, check_count_and_seed
from topcoat.prompts.templates import Template, default_templates
from topcoat.prompts.vocabulary import Vocabulary, default_vocabulary


def sample_photo_prompts(
    count: int,
    seed: int = 0,
    *,
    vocabulary: Vocabulary | None = None,
    templates: tuple[Template, ...] | None = None,
    names: Names | None = None,
) -> list[Prompt]:
    """``count`` prompts for real models; the first ``n`` are the same for every ``count >= n``.

    The words of an attribute are dealt in shuffled rounds, so each is balanced within one at any count, and attributes
    are independent of each other but for the combinations that the vocabulary calls implausible. ``age`` is in years,
    balanced within its band, and ``locale`` within its region. ``attributes`` hold what the sentence says: one that a
    template leaves out is not recorded. Ids carry the seed, the position and a digest of the text, so a prompt of
    another vocabulary, template or Faker version has another id.

    Raises `UsageError` if ``count`` is below 1 or ``seed`` is negative, or where the rules leave a subject no word.
    """
    check_count_and_seed(count, seed)
    vocabulary = vocabulary or default_vocabulary()
    templates = templates or default_templates(vocabulary)
    sampler = _Sampler(vocabulary, seed)
    names = names or InventedNames(seed)
    return [_prompt(sampler, templates, names, index) for index in range(count)]


def _prompt(sampler: _Sampler, templates: tuple[Template, ...], names: Names, index: int) -> Prompt:
    vocabulary = sampler.vocabulary
    template = templates[int(sampler.draw("template", tuple(str(number) for number in range(len(templates))), index))]
    dealt = sampler.subject(index)
    locale = sampler.locale(dealt["region"], index)
    known = {"name": names.name(index, vocabulary.given_names[dealt["presentation"]], locale)}
    known["age"] = sampler.age(dealt["age_band"], index)
    known |= dealt
    if names.follows_locale:
        known["locale"] = locale
    text = template.fill({name: vocabulary.said(name, word) for name, word in known.items()})
    fields = template.fields | {"age_band"} | ({"locale"} if "name" in template.fields else set[str]())
    attributes = {name: word for name, word in known.items() if name in fields}
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Prompt(id=f"photo-{sampler.seed:04d}-{index:08d}-{digest}", text=text, attributes=attributes)


class _Sampler:
    """Deals the attributes of one seed; every value follows from its position alone."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary
        self.seed = seed
        self._deck = Deck(seed, "photo ")
        self._fits = {name: self._fits_of(name) for name in vocabulary.attributes}

    def draw(self, name: str, values: tuple[str, ...], index: int, fits: Fits | None = None) -> str:
        """The word at ``index`` of a deck."""
        return self._deck.draw(name, values, index, fits)

    def subject(self, index: int) -> dict[str, str]:
        """The words of every attribute that the subject at ``index`` has."""
        vocabulary = self.vocabulary
        dealt: dict[str, str] = {}
        for name, words in vocabulary.attributes.items():
            condition = vocabulary.only_for.get(name)
            if condition is None:
                dealt[name] = self._word(name, index)
                continue
            owner, wanted = next(iter(condition.items()))
            if dealt[owner] == wanted:
                # the owner's round has the wanted word once, so rounds count the subjects that have it
                dealt[name] = self.draw(name, words, index // len(vocabulary.attributes[owner]))
        return dealt

    def age(self, band: str, index: int) -> str:
        """A year of the band."""
        low, high = self.vocabulary.age_range(band)
        years = tuple(str(year) for year in range(low, high + 1))
        return self.draw(f"year of {band}", years, index // len(self.vocabulary.attributes["age_band"]))

    def locale(self, region: str, index: int) -> str:
        """A locale of the region."""
        locales = self.vocabulary.locales[region]
        return self.draw(f"locale of {region}", locales, index // len(self.vocabulary.attributes["region"]))

    def _word(self, name: str, index: int) -> str:
        return self.draw(name, self.vocabulary.attributes[name], index, self._fits[name])

    def _fits_of(self, name: str) -> Fits | None:
        """Whether a word of ``name`` goes with what is dealt before it at a position; None where anything does."""
        order = list(self.vocabulary.attributes)
        before = set(order[: order.index(name)])
        rules = [
            (set(rule.when[name]), [(other, set(words)) for other, words in rule.when.items() if other != name])
            for rule in self.vocabulary.rules
            if name in rule.when and before.issuperset(rule.when.keys() - {name})
        ]
        if not rules:
            return None

        def fits(index: int, word: str) -> bool:
            return not any(
                word in words and all(self._word(other, index) in theirs for other, theirs in others)
                for words, others in rules
            )

        return fits
