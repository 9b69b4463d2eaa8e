"""CLIP's tokens, counted without a model: SDXL reads a prompt by nothing else, and cuts it after 77.

OpenAI's tokenizer is one byte-pair encoding (https://github.com/openai/CLIP, MIT), which CLIP ViT-L/14 and OpenCLIP
bigG/14 share. Its merges are here because the photo style has to fit.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CLIP_TOKENS = 77
"""Tokens of a text that CLIP reads, with the one that begins and the one that ends it."""

_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_tokens(text: str) -> int:
    """Tokens of a text, with the one that begins and the one that ends it."""
    return len(_tokenizer().encode(text)) + 2


@functools.cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    lines = gzip.decompress(Path(__file__).with_name("clip-merges.txt.gz").read_bytes()).decode().splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines if line.count(" ") == 1)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), *(left + right for left, right in merges)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(vocabulary)},
            merges=merges,
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
