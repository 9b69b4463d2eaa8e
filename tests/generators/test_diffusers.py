"""The adapter on a real diffusers Flux pipeline of random weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.card import Card
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import Generator, ModelPair
from topcoat.generators.diffusers import DiffusersGenerator, load_generator, load_pair

PROMPTS = ["studio portrait of a young woman", "old man", "red hair", "studio portrait of an old man, brown eyes"]
SEEDS = [3, 1, 4, 2**40]


@pytest.fixture(scope="module")
def loaded(flux_pair: ModelPair) -> tuple[DiffusersGenerator, DiffusersGenerator]:
    return load_pair(flux_pair)


def test_images_follow_the_convention(loaded: tuple[DiffusersGenerator, DiffusersGenerator]) -> None:
    images = loaded[1].generate(PROMPTS, SEEDS)
    assert isinstance(loaded[1], Generator)
    assert images.shape == (4, 3, 32, 48)  # the spec is 48 wide and 32 high
    assert images.dtype == torch.float32 and images.device.type == "cpu" and not images.requires_grad
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert loaded[1].generate_latents(PROMPTS, SEEDS).shape == (4, 16, 4, 6)


def test_unpacking_and_decoding_are_those_of_the_pipeline(
    loaded: tuple[DiffusersGenerator, DiffusersGenerator],
) -> None:
    images = loaded[1].generate(PROMPTS, SEEDS)
    expected = (
        loaded[1]
        .pipeline(
            prompt=PROMPTS,
            height=32,
            width=48,
            num_inference_steps=3,
            guidance_scale=0.0,
            max_sequence_length=12,
            generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
            output_type="pt",
        )
        .images
    )
    assert torch.allclose(images, expected, atol=1e-6)


def test_an_image_depends_on_its_prompt_seed_and_steps_alone(
    loaded: tuple[DiffusersGenerator, DiffusersGenerator],
) -> None:
    generator = loaded[1]
    together = generator.generate(PROMPTS, SEEDS)
    assert torch.equal(together, generator.generate(PROMPTS, SEEDS))
    order = [2, 0, 3, 1]
    shuffled = generator.generate([PROMPTS[i] for i in order], [SEEDS[i] for i in order])
    assert torch.equal(together[order], shuffled)
    alone = torch.cat([generator.generate([prompt], [seed]) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (generator.generate(PROMPTS, [9, 9, 9, 9]) - together).abs().max() > 0.01
    assert (generator.generate(PROMPTS, SEEDS, steps=1) - together).abs().max() > 1e-4
    same_seed = generator.generate(PROMPTS[:2], [5, 5])
    assert not torch.equal(same_seed[0], same_seed[1])


def test_a_pair_shares_everything_but_transformer_and_scheduler(
    loaded: tuple[DiffusersGenerator, DiffusersGenerator],
) -> None:
    one, other = (generator.pipeline for generator in loaded)
    assert one.vae is other.vae and one.text_encoder_2 is other.text_encoder_2 and one.tokenizer is other.tokenizer
    assert one.transformer is not other.transformer
    assert (one.scheduler.config.shift, other.scheduler.config.shift) == (3.0, 1.0)


def test_without_a_cache_nothing_is_shared(
    flux_pair: ModelPair, loaded: tuple[DiffusersGenerator, DiffusersGenerator]
) -> None:
    again = load_generator(flux_pair.baseline)
    assert again.pipeline.vae is not loaded[1].pipeline.vae
    assert torch.equal(again.generate(PROMPTS, SEEDS), loaded[1].generate(PROMPTS, SEEDS))


def test_loading_and_generating_print_nothing(flux_pair: ModelPair, capfd: pytest.CaptureFixture[str]) -> None:
    load_generator(flux_pair.distilled).generate(["portrait " * 60], [0])  # longer than both text encoders read
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_bfloat16_gives_finite_float32_images(flux_pair: ModelPair) -> None:
    rough = load_generator(flux_pair.baseline.model_copy(update={"dtype": "bfloat16"}))
    images = rough.generate(PROMPTS[:1], SEEDS[:1])
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width_px": 40}, "multiples of 16"),
        ({"device": "toaster"}, "device 'toaster' is unknown"),
        ({"device": "cuda:99"}, "is not here"),
    ],
)
def test_wrong_use_is_refused(flux_pair: ModelPair, change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_generator(flux_pair.baseline.model_copy(update=change))


def test_bad_requests_are_refused(loaded: tuple[DiffusersGenerator, DiffusersGenerator]) -> None:
    with pytest.raises(UsageError, match="one seed for each prompt"):
        loaded[0].generate(PROMPTS, [1])
    with pytest.raises(UsageError, match="0 steps"):
        loaded[0].generate(PROMPTS, SEEDS, steps=0)
    with pytest.raises(UsageError, match="latents have shape"):
        loaded[0].decode(torch.zeros(16, 4, 6))


@pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "plain-name", "a/b/c"])
def test_a_missing_folder_is_no_hub_id(flux_pair: ModelPair, model: str) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        load_generator(flux_pair.baseline.model_copy(update={"model": model}))


def test_a_damaged_folder_is_one_sentence(flux_pair: ModelPair, flux_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(flux_folder, tmp_path / "copy")
    weights = tmp_path / "copy" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"the folder is damaged, incomplete or of another kind: fetch it again"):
        load_generator(flux_pair.baseline.model_copy(update={"model": str(tmp_path / "copy")}))
    (tmp_path / "copy" / "model_index.json").unlink()
    with pytest.raises(ModelError, match=r"the folder is damaged, incomplete or of another kind: fetch it again"):
        load_generator(flux_pair.baseline.model_copy(update={"model": str(tmp_path / "copy")}))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "accept its licence .* then set HF_TOKEN"),
        ("RepositoryNotFoundError", "not on the Hugging Face hub or is private"),
        ("LocalEntryNotFoundError", "cannot be reached; connect once"),
        ("ValueError", "cannot be loaded"),
    ],
)
def test_hub_errors_say_what_to_do(
    flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    import diffusers

    cause = type(kind, (Exception,), {})("inner")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("first line\nsecond line") from cause

    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", refuse)
    with pytest.raises(ModelError, match=words) as caught:
        load_generator(flux_pair.baseline.model_copy(update={"model": "owner/name"}))
    assert "owner/name" in str(caught.value) and "\n" not in str(caught.value)
    assert "https://huggingface.co/owner/name" in str(caught.value)


def test_running_out_of_memory_says_what_to_lower(flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_generator(flux_pair.baseline)

    def burst(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(generator.pipeline.transformer, "forward", burst)
    with pytest.raises(
        ModelError, match="use a batch size below 4, offload: model or group or sequential, or a smaller size"
    ):
        generator.generate(PROMPTS, SEEDS)
    with pytest.raises(ModelError, match="use offload: model or group or sequential, or a smaller size"):
        generator.generate(PROMPTS[:1], SEEDS[:1])


def test_a_failed_run_leaves_nothing_on_the_device(
    flux_pair: ModelPair, monkeypatch: pytest.MonkeyPatch, card: Card
) -> None:
    import diffusers

    expected = load_generator(flux_pair.baseline).generate(PROMPTS[:2], SEEDS[:2])
    original, sizes = diffusers.FluxTransformer2DModel.forward, []

    def forward(network: Any, hidden_states: torch.Tensor, **named: Any) -> Any:
        sizes.append(len(hidden_states))
        card.hold(len(hidden_states))
        return original(network, hidden_states, **named)

    monkeypatch.setattr(diffusers.FluxTransformer2DModel, "forward", forward)
    generator = load_generator(flux_pair.baseline.model_copy(update={"offload": "model"}))
    card.room = 3.5  # the transformer and two images
    with pytest.raises(ModelError, match="batch size below 4, offload: group or sequential, or a smaller size"):
        generator.generate(PROMPTS, SEEDS)
    assert sizes == [4] and card.here() == []
    assert torch.equal(generator.generate(PROMPTS[:2], SEEDS[:2]), expected)


def test_values_that_are_not_finite_are_an_error(flux_pair: ModelPair) -> None:
    generator = load_generator(flux_pair.baseline)
    with torch.no_grad():
        generator.pipeline.transformer.proj_out.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        generator.generate(PROMPTS, SEEDS)


def test_another_kind_of_pipeline_is_refused_before_anything_is_loaded(
    flux_pair: ModelPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="is a WanPipeline, which is not supported; use one of: FluxPipeline, Flux2"):
        load_generator(flux_pair.baseline.model_copy(update={"model": str(tmp_path)}))
