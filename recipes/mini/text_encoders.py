"""Stage 4: tokenizers and text encoders for the prompt grammar.

Both tokenizers split on words; a word outside the vocabulary becomes one ``<unk>``, so names and unknown words cost one
token and break nothing. The encoders (a CLIP text model and a T5 encoder, FLUX's two) learn to tell which value of
every attribute a prompt says, or that it leaves the attribute open, and are frozen afterwards, as FLUX's are.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from recipes.mini.checkpoint import load_state, save_state
from recipes.mini.meter import Meter
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, Words, sample_words
from recipes.mini.recipe import PROMPT_SEED, Recipe, WorkFolder
from topcoat.files import write_json

CLIP_TOKENS = 77
BATCH_PROMPTS = 128
WARM_UP_PROMPTS = 12_800
CHECKPOINT_SECONDS = 120
FILLER = (
    "a an the of with and in portrait photo studio close-up picture head person skin face hair eyes wearing light from "
    "background"
)
NAME_PARTS = ("Ada", "Kofi", "Mei", "Ines", "Omar", "Yuki", "Lund", "Okafor", "Silva", "Novak", "Chen", "Haddad")


class TextEncoders(nn.Module):
    """Both encoders with their tokenizers; `embed` gives what a Flux transformer is conditioned on."""

    def __init__(
        self, clip: CLIPTextModel, t5: T5EncoderModel, tokenizers: tuple[PreTrainedTokenizerFast, ...]
    ) -> None:
        super().__init__()
        self.clip = clip
        self.t5 = t5
        self.clip_tokenizer, self.t5_tokenizer = tokenizers

    def embed(self, texts: list[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Texts -> pooled CLIP embedding (N, width) and T5 states (N, tokens, width), as FluxPipeline computes them."""
        # CLIP reads causally and is pooled at the end token, so padding behind it can be left away.
        clip_ids = _ids(self.clip_tokenizer, texts, CLIP_TOKENS, "longest")
        t5_ids = _ids(self.t5_tokenizer, texts, max_tokens, "max_length")
        return self.clip(clip_ids).pooler_output, self.t5(t5_ids)[0]

    def save(self, folder: Path) -> None:
        """Write the four folders of a Flux pipeline."""
        self.clip.save_pretrained(folder / "text_encoder")
        self.t5.save_pretrained(folder / "text_encoder_2")
        self.clip_tokenizer.save_pretrained(folder / "tokenizer")
        self.t5_tokenizer.save_pretrained(folder / "tokenizer_2")

    @classmethod
    def load(cls, folder: Path) -> TextEncoders:
        """The frozen encoders that `save` wrote."""
        clip = CLIPTextModel.from_pretrained(folder / "text_encoder")
        t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2")
        tokenizers = tuple(PreTrainedTokenizerFast.from_pretrained(folder / n) for n in ("tokenizer", "tokenizer_2"))
        return cls(clip, t5, tokenizers).eval().requires_grad_(False)


def train_text_encoders(recipe: Recipe, work: WorkFolder) -> None:
    """Train both encoders to read prompts; print how many attributes they read right."""
    torch.manual_seed(41)
    encoders = build_text_encoders(recipe)
    sizes = [len(values) + 1 for values in PORTRAIT_VOCABULARY.values()]
    readers = nn.ModuleList([nn.Linear(recipe.text_width, sum(sizes)) for _ in range(2)])
    optimizer = torch.optim.AdamW([*encoders.parameters(), *readers.parameters()], lr=1.5e-3, weight_decay=0.01)
    portraits = [sample_words(index, PROMPT_SEED + 1) for index in range(40_000)]
    modules: dict[str, nn.Module] = {"encoders": encoders, "readers": readers}
    optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": optimizer}
    seen = int(load_state(work.text, modules, optimizers).get("prompts", 0))
    saved = time.monotonic()
    with Meter("text encoders", recipe.text_prompts, seen) as meter:
        while seen < recipe.text_prompts:
            progress = seen / recipe.text_prompts
            for group in optimizer.param_groups:
                group["lr"] = 1.5e-3 * min(1.0, (seen + 1) / WARM_UP_PROMPTS) * (1 - progress)
            texts, labels = _batch(portraits, random.Random(43 * 1_000_003 + seen), BATCH_PROMPTS)
            loss, right = _read(encoders, readers, texts, labels, sizes, recipe.text_tokens)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(encoders.parameters(), 1.0)
            optimizer.step()
            seen += BATCH_PROMPTS
            meter.update(seen, f"{right:.1%} read")
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                save_state(work.text, modules, optimizers, {"prompts": seen})
                saved = time.monotonic()
    encoders.eval()
    texts, labels = _batch(portraits, random.Random(47), 2_000)
    with torch.no_grad():
        _, right = _read(encoders, readers, texts, labels, sizes, recipe.text_tokens)
    encoders.save(work.text)
    write_json(work.text / "figures.json", {"prompts_seen": seen, "attributes_read": right})
    print(f"text encoders: {right:.2%} of the attributes of 2,000 prompts read right")


def build_text_encoders(recipe: Recipe) -> TextEncoders:
    """Untrained encoders and tokenizers made from the prompt vocabulary."""
    values = {value for values in PORTRAIT_VOCABULARY.values() for value in values if value != "none"}
    words = {word for value in values for word in value.split()} | set(FILLER.split())
    vocabulary = ["<pad>", "</s>", "<unk>", "<s>", *sorted(words)]
    clip_tokenizer = _tokenizer(vocabulary, start=True, max_tokens=CLIP_TOKENS)
    t5_tokenizer = _tokenizer(vocabulary, start=False, max_tokens=recipe.text_tokens)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=recipe.text_width,
            intermediate_size=2 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=CLIP_TOKENS,
            pad_token_id=0,
            bos_token_id=3,
            eos_token_id=1,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(vocabulary),
            d_model=recipe.text_width,
            d_kv=recipe.text_width // 4,
            d_ff=2 * recipe.text_width,
            num_layers=recipe.text_layers,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
    return TextEncoders(clip, t5, (clip_tokenizer, t5_tokenizer))


def loosened(words: Words, rng: random.Random) -> tuple[str, frozenset[str]]:
    """A prompt that may leave phrases out, change their order or name somebody, and the attributes it still says."""
    opening, *details = words.phrases(ancestry=rng.random() < 0.8)
    share = rng.choice((1.0, 1.0, 0.85, 0.6, 0.2))
    details = [phrase for phrase in details if rng.random() < share]
    if rng.random() < 0.25:
        rng.shuffle(details)
    text = opening.text
    if rng.random() < 0.2:
        text = text.replace("portrait of", f"portrait of {' '.join(rng.sample(NAME_PARTS, 2))},")
    said = frozenset(name for phrase in (opening, *details) for name in phrase.attributes)
    return ", ".join([text, *(phrase.text for phrase in details)]), said


def _batch(portraits: list[Words], rng: random.Random, count: int) -> tuple[list[str], Tensor]:
    """Loosened prompts and, per attribute, the index of the value said (0 where nothing is said)."""
    texts, labels = [], []
    for words in rng.choices(portraits, k=count):
        text, said = loosened(words, rng)
        texts.append(text)
        labels.append(
            [
                values.index(getattr(words, name)) + 1 if name in said else 0
                for name, values in PORTRAIT_VOCABULARY.items()
            ]
        )
    return texts, torch.tensor(labels)


def _read(
    encoders: TextEncoders, readers: nn.ModuleList, texts: list[str], labels: Tensor, sizes: list[int], tokens: int
) -> tuple[Tensor, float]:
    pooled, states = encoders.embed(texts, tokens)
    loss, right = torch.zeros(()), 0.0
    for reader, summary in zip(readers, (pooled, states.mean(dim=1)), strict=True):
        for index, logits in enumerate(reader(summary).split(sizes, dim=1)):
            loss = loss + F.cross_entropy(logits, labels[:, index])
            right += float((logits.argmax(dim=1) == labels[:, index]).float().mean())
    return loss, right / (2 * len(sizes))


def _ids(tokenizer: PreTrainedTokenizerFast, texts: list[str], max_tokens: int, padding: str) -> Tensor:
    return tokenizer(texts, padding=padding, max_length=max_tokens, truncation=True, return_tensors="pt").input_ids


def _tokenizer(vocabulary: list[str], *, start: bool, max_tokens: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(",", " "), normalizers.Replace(".", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "<s> $A </s>" if start else "$A </s>"
    special = [("</s>", 1), ("<s>", 3)] if start else [("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>" if start else None,
    )
