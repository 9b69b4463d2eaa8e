"""Portrait prompts: explicit attributes in plain English, balanced and seeded.

Two styles: *mini* (`sample_prompts`), whose words the embedded mini pair was trained on, and *photo*
(`topcoat.prompts.photo.sample_photo_prompts`) for real models, with invented names. Sampling is stratified: the values
of an attribute come in shuffled rounds, so they are balanced at any count, and prompt ``i`` of a seed is the same
prompt however many are asked for.
"""

from topcoat.prompts.files import read_prompts, write_prompts
from topcoat.prompts.prompt import MAX_WORDS, SPLITS, Prompt, Split, as_prompts, prompt_from_text, split_of_id
from topcoat.prompts.styles import Style, held_out_prompts, sample_prompts, sample_style, style_of_pair

__all__ = [
    "MAX_WORDS",
    "SPLITS",
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
