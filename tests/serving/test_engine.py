from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from PIL import Image

from tests.conftest import FakeGenerator
from tests.serving.conftest import MakeEngine, pixels, png
from topcoat.errors import DataError, ModelError, UsageError
from topcoat.pictures.inspection import inspect_bytes
from topcoat.serving.admission import BusyError, ClosingError, TooLateError
from topcoat.serving.engine import Engine, Upload
from topcoat.serving.work import EnhanceSettings, Gating, GenerateSettings, Subject

DEFAULT = GenerateSettings(head="default")


def _in(engine: Engine, work: Callable[[Engine], Awaitable[None]]) -> None:
    async def run() -> None:
        async with engine:
            await work(engine)

    asyncio.run(run())


def test_the_same_seed_gives_the_same_bytes_alone_and_in_a_batch(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        alone = [(await engine.generate([Subject("old man", seed)], DEFAULT)).images[0] for seed in range(4)]
        together = await asyncio.gather(*(engine.generate([Subject("old man", seed)], DEFAULT) for seed in range(4)))
        assert [answer.batch_images for answer in together] == [4, 4, 4, 4]
        assert [answer.images[0].content for answer in together] == [image.content for image in alone]
        assert len({image.content for image in alone}) == 4

    _in(make_engine(), work)


def test_an_answer_says_how_it_was_made(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        answer = await engine.generate([Subject("old man", 7)], DEFAULT, format_name="jpeg", quality=80)
        facts = inspect_bytes(answer.images[0].content, "the answer")
        assert facts["format"] == "JPEG" and facts["digital_source_type"].endswith("/trainedAlgorithmicMedia")
        assert facts["topcoat"][0]["head_digest"] == engine.catalogue.heads[0].digest
        assert answer.head is engine.catalogue.heads[0] and answer.steps == 2
        assert answer.images[0].seed == 7 and answer.images[0].size_px == (32, 32)

    _in(make_engine(), work)


def test_the_distilled_image_and_the_baseline(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        pictured = GenerateSettings(head="default", with_distilled=True)
        enhanced = (await engine.generate([Subject("old man", 1)], pictured)).images[0]
        plain = (await engine.generate([Subject("old man", 1)], GenerateSettings(head="none"))).images[0]
        assert enhanced.distilled is not None
        np.testing.assert_array_equal(pixels(enhanced.distilled), pixels(plain.content))
        assert not np.array_equal(pixels(enhanced.content), pixels(plain.content))
        baseline = await engine.generate([Subject("old man", 1)], GenerateSettings(side="baseline"))
        assert baseline.head is None and baseline.steps == 8

    _in(make_engine(baseline=True), work)


def test_an_upload_keeps_what_it_carries_and_gets_its_mark(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        exif = Image.Exif()
        exif[0x010F] = "Camera"
        answer = await engine.enhance([Upload(png(exif=exif))], EnhanceSettings("embedded"), format_name="webp")
        facts = inspect_bytes(answer.images[0].content, "the answer")
        assert facts["exif"]["Make"] == "Camera" and facts["topcoat"][0]["action"] == "enhance"
        assert facts["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")

    _in(make_engine(), work)


def test_a_damaged_or_huge_xmp_leaves_room_for_the_mark(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        buffer = io.BytesIO()
        Image.fromarray(pixels(png())).save(buffer, "WEBP", lossless=True, xmp=b"<x" + b"a" * 70_000)
        for format_name in ("jpeg", "png"):
            answer = await engine.enhance(
                [Upload(buffer.getvalue())], EnhanceSettings("embedded"), format_name=format_name
            )
            assert inspect_bytes(answer.images[0].content, "the answer")["topcoat"]
            assert any("XMP" in note for note in answer.images[0].notes)

    _in(make_engine(), work)


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_a_mask_says_where(make_engine: MakeEngine, mode: str) -> None:
    async def work(engine: Engine) -> None:
        wanted = np.zeros((40, 40), np.uint8)
        wanted[:, 20:] = 255
        mask = Image.fromarray(wanted) if mode == "L" else Image.new("RGBA", (40, 40))
        if mode == "RGBA":
            mask.putalpha(Image.fromarray(255 - wanted))
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        upload = png()
        masked = await engine.enhance([Upload(upload, buffer.getvalue())], EnhanceSettings("embedded"))
        whole = await engine.enhance([Upload(upload)], EnhanceSettings("embedded"))
        result = pixels(masked.images[0].content)
        np.testing.assert_array_equal(result[:, :20], pixels(upload)[:, :20])
        np.testing.assert_array_equal(result[:, 20:], pixels(whole.images[0].content)[:, 20:])
        assert not np.array_equal(result[:, 20:], pixels(upload)[:, 20:])

    _in(make_engine(), work)


def test_gates_keep_the_person(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        gating = Gating(identity_floor=1.0)
        generated = await engine.generate([Subject("old man", 1)], GenerateSettings(head="default", gating=gating))
        uploaded = await engine.enhance([Upload(png())], EnhanceSettings("embedded", gating=gating))
        for made in (generated.images[0], uploaded.images[0]):
            assert made.decision is not None and made.decision.kept == "distilled" and made.strength == 0
        np.testing.assert_array_equal(pixels(uploaded.images[0].content), pixels(png()))

    _in(make_engine(), work)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (GenerateSettings(head="other"), "no head 'other' is served to generate; use one of: embedded, none"),
        (GenerateSettings(head="default", strength=3), "strength is 3; give a number from 0"),
        (GenerateSettings(head="none", strength=0.5), "strength and gates are a head's"),
        (GenerateSettings(size_px=(64, 64)), "size 64x64 is not served; use one of: 32x32"),
        (GenerateSettings(guidance_scale=3.0), "plastic has its own size and guidance alone"),
        (GenerateSettings(steps=5000), "5000 steps are not possible"),
    ],
)
def test_what_cannot_be_is_one_sentence(make_engine: MakeEngine, settings: GenerateSettings, says: str) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(UsageError, match=says):
            await engine.generate([Subject("old man", 1)], settings)
        assert (engine.load.held, engine.load.waiting) == (0, 0)

    _in(make_engine(), work)


def test_uploads_are_looked_at_before_they_are_decoded(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        tiff = io.BytesIO()
        Image.new("RGB", (8, 8)).save(tiff, "TIFF")
        for data, says in (
            (b"", "it is empty"),
            (tiff.getvalue(), "send PNG, JPEG, WebP, AVIF"),
            (png(1100), "1100 x 1100 px, which is more than 1 megapixels"),
            (png()[:200], "cut off"),
        ):
            with pytest.raises(DataError, match=says):
                await engine.enhance([Upload(data)], EnhanceSettings("embedded"))
        with pytest.raises(DataError, match="same size"):
            await engine.enhance([Upload(png(), png(20))], EnhanceSettings("embedded"))
        assert (engine.load.held, engine.load.waiting) == (0, 0)

    _in(make_engine(max_megapixels=1), work)


def test_a_full_queue_refuses_and_says_when_to_come_again(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        subjects = [Subject("old man", seed) for seed in range(3)]
        results = await asyncio.gather(*(engine.generate(subjects, DEFAULT) for _ in range(2)), return_exceptions=True)
        assert not isinstance(results[0], BaseException) and isinstance(results[1], BusyError)
        assert results[1].retry_after_seconds >= 1
        with pytest.raises(UsageError, match="ask for 1 to 4"):
            await engine.generate([Subject("old man", seed) for seed in range(5)], DEFAULT)
        await engine.generate(subjects, DEFAULT)

    _in(make_engine(max_queue=4), work)


def test_a_late_request_is_ended_and_leaves_nothing_behind(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(TooLateError, match="took more than 1e-06 s"):
            await engine.generate([Subject("old man", 1)], DEFAULT, timeout_seconds=1e-6)
        await engine.generate([Subject("old man", 1)], DEFAULT)
        assert (engine.load.held, engine.load.waiting) == (0, 0)

    _in(make_engine(), work)


def test_a_model_that_fails_on_one_image_makes_the_others(
    make_engine: MakeEngine, fake_generators: tuple[FakeGenerator, FakeGenerator]
) -> None:
    fake_generators[0].fails_on = 13

    async def work(engine: Engine) -> None:
        requests = (engine.generate([Subject("old man", seed)], DEFAULT) for seed in (1, 13, 2))
        first, failed, last = await asyncio.gather(*requests, return_exceptions=True)
        assert isinstance(failed, ModelError) and not isinstance(first, BaseException | None)
        assert not isinstance(last, BaseException)

    _in(make_engine(), work)


def test_a_batch_without_memory_is_halved_and_not_tried_again(
    make_engine: MakeEngine, fake_generators: tuple[FakeGenerator, FakeGenerator]
) -> None:
    fake_generators[0].fits = 2

    async def work(engine: Engine) -> None:
        for calls in ([4, 2, 1, 1, 2], [2, 2]):
            fake_generators[0].calls.clear()
            answers = await asyncio.gather(*(engine.generate([Subject("old man", seed)], DEFAULT) for seed in range(4)))
            assert [answer.batch_images for answer in answers] == [2, 2, 2, 2]
            assert fake_generators[0].calls == calls

    _in(make_engine(), work)


def test_nothing_is_taken_before_the_start_and_after_the_end(make_engine: MakeEngine) -> None:
    engine = make_engine()

    async def run() -> None:
        with pytest.raises(ClosingError, match="not ready"):
            await engine.generate([Subject("old man", 1)], DEFAULT)
        async with engine:
            pass
        with pytest.raises(ClosingError):
            await engine.enhance([Upload(png())], EnhanceSettings("embedded"))

    asyncio.run(run())


def test_edits_are_served_without_a_pair_and_without_torch(make_engine: MakeEngine) -> None:
    async def work(engine: Engine) -> None:
        assert engine.catalogue.pair is None and not engine.catalogue.heads[0].generates
        await engine.enhance([Upload(png())], EnhanceSettings("embedded"))
        with pytest.raises(UsageError, match="no model pair is served here"):
            await engine.generate([Subject("old man", 1)], DEFAULT)

    _in(make_engine(pair=None), work)
