"""What the models of a pair read of a prompt: counted with their own tokenizers, without loading a network.

A text encoder reads so many tokens and cuts the rest without a word. FLUX.1 schnell reads 256 of T5's where dev reads
512, and 77 of CLIP's; where one side is cut and the other is not, a pair shows two subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from topcoat.errors import ModelError, first_few
from topcoat.files import read_json
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.generators.callables import is_callable
from topcoat.generators.families import family_named, published_models
from topcoat.generators.loading import quiet_libraries
from topcoat.prompts import Prompt
from topcoat.prompts.clip import CLIP_TOKENS, clip_tokens


@dataclass(frozen=True, slots=True)
class Cut:
    """A prompt that one model does not read to its end."""

    id: str
    model: str
    """Name of the side's spec."""
    tokenizer: str
    tokens: int
    """Of the whole text, with what the pipeline puts around it."""
    read: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pair reads of some prompts."""

    cut: tuple[Cut, ...]
    unknown: tuple[str, ...]
    """Ids of prompts of which the distilled model knows no word at all."""
    uncounted: tuple[str, ...]
    """A sentence for each side that could not be counted."""

    def sentences(self) -> list[str]:
        """One for each reader that cuts, one for unknown prompts, and those of what is not counted."""
        readers: dict[tuple[str, int, tuple[tuple[str, int], ...]], list[str]] = {}
        groups: dict[tuple[str, str, int], list[tuple[str, int]]] = {}
        for cut in self.cut:
            groups.setdefault((cut.model, cut.tokenizer, cut.read), []).append((cut.id, cut.tokens))
        for (model, tokenizer, read), texts in groups.items():
            readers.setdefault((tokenizer, read, tuple(texts)), []).append(model)
        sentences = [
            f"{_prompts(len(texts))} longer than what {' and '.join(models)} read{'s' if len(models) == 1 else ''} "
            f"({tokenizer}: {read} tokens), and the rest is cut: {first_few([f'{each} ({n})' for each, n in texts])}"
            for (tokenizer, read, texts), models in readers.items()
        ]
        if self.unknown:
            sentences.append(
                f"{_prompts(len(self.unknown))} without a word that the model knows, so the image follows from the "
                f"seed alone: {first_few(self.unknown)}"
            )
        return [*sentences, *self.uncounted]

    def as_dict(self) -> dict[str, Any]:
        """As plain values for JSON; every prompt is listed."""
        return asdict(self)


def read_by(pair: ModelPair, prompts: Sequence[Prompt]) -> Reading:
    """Count the tokens of prompts as both models of ``pair`` do; a tokenizer that is not on this machine is named."""
    cuts: list[Cut] = []
    uncounted: list[str] = []
    unknown: set[str] = set()
    sides = {"distilled": pair.distilled, "baseline": pair.baseline}
    for side, spec in sides.items():
        if side == "baseline" and spec == pair.distilled:
            continue
        if is_callable(spec):
            uncounted.append(f"what {spec.name} reads of the prompts is not counted: it is a function")
            continue
        missing, knows_none = _read_by_model(spec, prompts, cuts)
        if side == "distilled":
            unknown = knows_none
        if missing:
            uncounted.append(
                f"whether {spec.name} reads the prompts whole could not be counted: {' and '.join(missing)} of "
                f"{spec.model} {'is' if len(missing) == 1 else 'are'} not on this machine"
            )
    return Reading(tuple(cuts), tuple(each.id for each in prompts if each.id in unknown), tuple(uncounted))


def _read_by_model(spec: GeneratorSpec, prompts: Sequence[Prompt], cuts: list[Cut]) -> tuple[list[str], set[str]]:
    """Add what one model cuts; gives the tokenizers that are missing, and the ids of which it knows no word."""
    folder = _folder(spec)
    try:
        index: Any = published_models()[spec.model]["model_index"] if folder is None else read_json(folder / _INDEX)
        family = family_named(str(index.get("_class_name")), spec.model)
    except (KeyError, ModelError):
        return ["the tokenizer"], set()
    texts = [prompt.text for prompt in prompts]
    missing: list[str] = []
    known: set[str] | None = None
    for name in family.tokenizers:
        if folder is not None and index.get(name, [None])[0] is None:
            continue  # a pipeline saved without this text encoder
        tokenizer = None if folder is None else _tokenizer(folder, name, index[name][1])
        if tokenizer is not None:
            read = family.text_length(name, tokenizer, spec)
            counts = family.text_tokens(tokenizer, texts, spec)
            here = _known(tokenizer, prompts)
            known = here if known is None else known | here
        elif family.is_clip(name):
            read, counts = CLIP_TOKENS, [clip_tokens(text) for text in texts]
        else:
            missing.append(name)
            continue
        cuts += [
            Cut(prompt.id, spec.name, name, count, read)
            for prompt, count in zip(prompts, counts, strict=True)
            if count > read
        ]
    return missing, set() if known is None else {prompt.id for prompt in prompts} - known


def _known(tokenizer: Any, prompts: Sequence[Prompt]) -> set[str]:
    """The ids of prompts with a word that is in the vocabulary; a tokenizer of pieces knows every word."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return {prompt.id for prompt in prompts}
    encoded = tokenizer([prompt.text for prompt in prompts], add_special_tokens=False, truncation=False, padding=False)
    special = {unknown, tokenizer.pad_token_id}
    return {prompt.id for prompt, ids in zip(prompts, encoded.input_ids, strict=True) if {*ids} - special}


_INDEX = "model_index.json"


def _folder(spec: GeneratorSpec) -> Path | None:
    """The pipeline's folder, or its snapshot in this machine's cache; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache

    if Path(spec.model).is_dir():
        return Path(spec.model) if (Path(spec.model) / _INDEX).is_file() else None
    path = try_to_load_from_cache(spec.model, _INDEX, revision=spec.revision)
    return Path(path).parent if isinstance(path, str) else None


def _tokenizer(folder: Path, name: str, class_name: str) -> Any:
    """One tokenizer, loaded as diffusers would; None if its files are not there."""
    import transformers

    if not (folder / name).is_dir():
        return None
    with quiet_libraries():
        try:
            return getattr(transformers, class_name).from_pretrained(folder / name, local_files_only=True)
        except Exception:  # a snapshot that was fetched in part
            return None


def _prompts(count: int) -> str:
    return "1 prompt is" if count == 1 else f"{count} prompts are"
