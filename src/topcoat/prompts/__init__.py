"""Portrait prompts: explicit attributes in plain English, balanced and seeded.

Two vocabularies: the *mini* one (`sample_prompts`), which the embedded mini pair was taught, and the *photo* one
(`topcoat.prompts.photo.sample_photo_prompts`) for real models, with invented names. Sampling is stratified: every
attribute deals its words in shuffled rounds, so the marginals are balanced at any count, and prompt ``i`` of a seed is
the same prompt however many are asked for.
"""

from topcoat.prompts.mini import sample_prompts
from topcoat.prompts.prompt import MAX_WORDS, Prompt, Split, as_prompts, prompt_from_text, split_of_id
from topcoat.prompts.reading import read_prompts
from topcoat.prompts.styles import Style, held_out_prompts, sample_style, style_of_pair
from topcoat.prompts.words import VOCABULARY, PortraitWords
from topcoat.prompts.writing import write_prompts

__all__ = [
    "MAX_WORDS",
    "VOCABULARY",
    "PortraitWords",
    "Prompt",
    "Split",
    "Style",
    "as_prompts",
    "held_out_prompts",
    "prompt_from_text",
    "read_prompts",
    "sample_prompts",
    "sample_style",
    "split_of_id",
    "style_of_pair",
    "write_prompts",
]
