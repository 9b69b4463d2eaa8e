from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.heads.vaes import settings_of
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.heads import KINDS, Head, UNet, UNetConfig
from topcoat.heads import head as heads_head
from topcoat.heads.kinds import parse_head_config
from topcoat.heads.network import Network

CONFIG = UNetConfig(channels=(4, 8))


def make_head(seed: int = 0, config: UNetConfig = CONFIG, spread: float = 0.05) -> Head:
    torch.manual_seed(seed)
    network = UNet(config)
    torch.nn.init.normal_(network.out.weight, std=spread)
    return Head(network, config, {"run": "test", "losses": {"charbonnier": 1.0}})


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 1), (3, 40), (5, 2)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]):
    images = torch.rand(2, 3, *size)
    enhanced = make_head()(images)
    assert enhanced.shape == images.shape
    assert enhanced.dtype == torch.float32
    assert enhanced.is_contiguous()
    assert float(enhanced.min()) >= 0 and float(enhanced.max()) <= 1
    assert not enhanced.requires_grad


def test_untrained_head_is_the_identity():
    images = torch.rand(3, 3, 19, 21)
    assert torch.equal(Head(UNet(CONFIG), CONFIG)(images), images)


def test_padding_does_not_change_sizes_that_fit():
    head = make_head()
    images = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        expected = (images + head.network(images)).clamp(0, 1)
    torch.testing.assert_close(head(images), expected)


def test_strength_scales_the_change():
    head = make_head(spread=0.005)
    images = torch.rand(2, 3, 16, 16) * 0.5 + 0.25  # far enough from 0 and 1 that nothing is clamped
    change = head(images) - images
    assert float(change.abs().max()) > 1e-3
    assert torch.equal(head(images, strength=0), images)
    torch.testing.assert_close(head(images, strength=0.5) - images, change / 2, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(head(images, strength=2) - images, change * 2, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), float("inf")])
def test_strength_outside_its_range_is_refused(strength: float):
    with pytest.raises(UsageError, match="strength"):
        make_head()(torch.rand(1, 3, 16, 16), strength)


def test_wrong_images_are_refused():
    head = make_head()
    for images in (torch.rand(3, 16, 16), torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16) * 255):
        with pytest.raises(UsageError):
            head(images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_head_computes_in_16_bits(dtype: torch.dtype, tmp_path: Path):
    head, images = make_head(), torch.rand(2, 3, 33, 40)
    expected, digest = head(images), head.digest
    seen: list[torch.dtype] = []
    head.network.stem.register_forward_hook(lambda _module, _given, made: seen.append(made.dtype))  # type: ignore[operator]
    assert head.to(dtype) is head and head.dtype == dtype
    enhanced = head(images)
    assert seen == [dtype] and enhanced.dtype == torch.float32
    change, error = expected - images, enhanced - expected
    assert 0 < float(error.square().mean()) < 0.01**2 * float(change.square().mean()) * 4
    assert torch.equal(head(images, strength=0), images)  # what the change is added to is not rounded
    assert head.digest == digest
    head.save_pretrained(tmp_path)
    assert torch.equal(Head.from_pretrained(tmp_path)(images), expected)
    assert torch.equal(head.to("cpu", torch.float32)(images), expected)


def test_other_dtypes_are_refused():
    with pytest.raises(UsageError, match="float64; use one of: float32, bfloat16, float16"):
        make_head().to(torch.float64)


@pytest.mark.parametrize("by", ["method", "wrapper"])
def test_a_compiled_head_saves_and_loads(by: str, tmp_path: Path):
    head, images = make_head(), torch.rand(1, 3, 16, 24)
    expected, digest = head(images), head.digest
    if by == "method":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # traced, without a C++ compiler
            assert head.compile() is head
    else:
        head.network = cast(Network, torch.compile(head.network, backend="eager"))
        assert "_orig_mod.stem.weight" in head.network.state_dict()
    graphs: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.testing.assert_close(head(images), expected)
    assert by == "wrapper" or torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    assert head.digest == digest
    head.save_pretrained(tmp_path)
    assert sorted(load_file(tmp_path / "model.safetensors")) == sorted(make_head().network.state_dict())
    assert torch.equal(Head.from_pretrained(tmp_path)(images), expected)


def test_weights_that_a_wrapper_saved_are_read(tmp_path: Path):
    head = make_head()
    head.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({f"_orig_mod.{name}": value for name, value in weights.items()}, tmp_path / "model.safetensors")
    assert Head.from_pretrained(tmp_path).digest == head.digest


def test_lower_precision_images_are_taken():
    images = torch.rand(1, 3, 16, 16).to(torch.bfloat16)
    assert make_head()(images).dtype == torch.float32


def test_results_that_are_not_finite_are_an_error():
    head = make_head()
    with torch.no_grad():
        head.network.get_parameter("out.bias").fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        head(torch.rand(1, 3, 16, 16))


def test_facts_and_digest():
    head = make_head(seed=1)
    assert head.kind == "unet"
    assert head.input == "image"
    assert head.config.size_multiple == 4
    assert head.parameters == sum(weight.numel() for weight in head.network.parameters())
    assert head.digest == make_head(seed=1).digest != make_head(seed=2).digest
    assert head.device == torch.device("cpu")
    assert head.to("cpu") is head


def test_saved_and_loaded_head_is_the_same(tmp_path: Path):
    head = make_head()
    head.save_pretrained(tmp_path / "a")
    loaded = Head.from_pretrained(tmp_path / "a")
    images = torch.rand(2, 3, 18, 18)
    assert torch.equal(loaded(images), head(images))
    assert (loaded.digest, loaded.config, loaded.facts) == (head.digest, head.config, head.facts)
    loaded.save_pretrained(str(tmp_path / "b"))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_loading_leaves_the_random_generator_alone(tmp_path: Path):
    make_head().save_pretrained(tmp_path)
    before = torch.get_rng_state()
    Head.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_card_says_what_the_head_is(tmp_path: Path):
    head = make_head()
    head.save_pretrained(tmp_path, {"run": "mine", "licences": {"baseline": {"name": "non-commercial"}}})
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: topcoat\n")
    assert "- run: mine" in card and "non-commercial" in card and head.digest in card
    assert Head.from_pretrained(tmp_path).facts["run"] == "mine"


def test_half_precision_weights_are_read(tmp_path: Path):
    head = make_head()
    head.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: value.half() for name, value in weights.items()}, tmp_path / "model.safetensors")
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(Head.from_pretrained(tmp_path)(images), head(images), atol=2e-3, rtol=0)


WEIGHTS, SETTINGS = "model.safetensors", "config.json"


def edited(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / SETTINGS
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def poisoned(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["out.bias"][0] = float("inf")
    save_file(weights, folder / WEIGHTS)


def pickled(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "model.pth").write_bytes(b"\x80\x04.")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (pickled, "pickled"),
        (lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"), "pickled"),
        (lambda folder: (folder / WEIGHTS).unlink(), "holds no weights"),
        (lambda folder: (folder / SETTINGS).unlink(), "holds no head"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"not a safetensors file"), "damaged"),
        (lambda folder: (folder / SETTINGS).write_text("{"), SETTINGS),
        (poisoned, "not finite"),
        (edited(head={"kind": "unet", "channels": [4, 6]}), "does not fit"),
        (edited(format_version=99), "format version 99"),
        (edited(format="other"), "does not describe"),
        (edited(head={"kind": "mystery"}), "mystery"),
        (edited(head={}), "names no kind"),
        (edited(head={"kind": "unet", "widht": 3}), "widht"),
    ],
)
def test_unusable_folders_are_refused(tmp_path: Path, damage: Callable[[Path], object], words: str):
    make_head().save_pretrained(tmp_path / "head")
    damage(tmp_path / "head")
    with pytest.raises(DataError, match=words):
        Head.from_pretrained(tmp_path / "head")


def test_names_that_are_neither_folder_nor_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("missing", "./missing/folder", str(tmp_path / "missing"), "a/b/c", "bad//name"):
        with pytest.raises(ModelError, match=r"there is no folder|cannot be loaded"):
            Head.from_pretrained(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"nobody/nothing is not on this machine .* or give a local folder"):
        Head.from_pretrained("nobody/nothing")


def test_repository_is_fetched_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_head().save_pretrained(tmp_path)
    asked: dict[str, object] = {}

    def fake(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, allow_patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    assert Head.from_pretrained("someone/head", revision="abc").digest == make_head().digest
    assert asked["name"] == "someone/head" and asked["revision"] == "abc"
    assert asked["allow_patterns"] == ["config.json", "model.safetensors", "README.md", "gates.json"]


def test_embedded_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads_head, "MINI", tmp_path)
    with pytest.raises(DataError, match="reinstall"):
        Head.default()
    make_head().save_pretrained(tmp_path / "head")
    assert Head.default().digest == make_head().digest
    with pytest.raises(DataError, match="lacks the embedded decoder"):
        Head.load("embedded-decoder")
    make_head(seed=1).save_pretrained(tmp_path / "decoder")
    assert Head.load("embedded-decoder").digest == make_head(seed=1).digest


def test_registry_builds_what_it_lists():
    for kind, settings in KINDS.items():
        config = parse_head_config(settings_of(kind), source="test")
        assert isinstance(config, settings)
        assert isinstance(config.build(), Network)
    with pytest.raises(UsageError, match="one of: cyclegan, decoder, esa-cyclegan, latent-unet, nafnet, refiner, unet"):
        parse_head_config({"kind": "nope"}, source="test")


def test_card_has_licences_and_figures(tmp_path: Path):
    facts = {
        "run": "mine",
        "dataset_digest": "abc",
        "licences": {"baseline": {"name": "non-commercial", "url": "https://example.org", "note": "ask first"}},
        "figures": {"psnr_db": 31.23456, "gap_closed": None},
    }
    make_head().save_pretrained(tmp_path, facts)
    card = (tmp_path / "README.md").read_text()
    assert "- baseline: non-commercial. https://example.org. ask first" in card
    assert "| psnr db | 31.23 |" in card and "| gap closed | `null` |" in card
    assert "- dataset digest: abc" in card and "- licences" not in card


class FakeHub:
    pushed: tuple[str, dict[str, bytes], str] | None = None
    fails = False

    endpoint = "https://hub.example"

    def __init__(self, *, token: str, endpoint: str | None) -> None:
        assert token == "hf_test" and endpoint is None

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        if FakeHub.fails:
            raise ConnectionError("no network")
        assert exist_ok and private and repo_type == "model"
        return f"https://hub.example/{name}"

    def upload_folder(self, *, repo_id: str, repo_type: str, folder_path: Path, commit_message: str) -> None:
        assert repo_type == "model"
        files = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        FakeHub.pushed = repo_id, files, commit_message


def test_a_head_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_test")
    head = make_head()
    assert head.push_to_hub("me/head") == "https://hub.example/me/head"
    assert FakeHub.pushed is not None
    name, files, message = FakeHub.pushed
    assert name == "me/head" and head.digest in message
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    assert Head.from_pretrained(tmp_path).digest == head.digest
    with pytest.raises(UsageError, match="owner/name"):
        head.push_to_hub("./here")
    monkeypatch.setattr(FakeHub, "fails", True)
    with pytest.raises(ModelError, match=r"https://hub.example cannot be reached; check the network"):
        head.push_to_hub("me/head")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ModelError, match="no Hugging Face token on this machine; set HF_TOKEN"):
        head.push_to_hub("me/head")
