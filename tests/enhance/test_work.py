from __future__ import annotations

import errno
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topcoat.enhance import work
from topcoat.enhance.done import NAME
from topcoat.enhance.jobs import Job
from topcoat.enhance.work import Outcome, Settings, enhance_files, state_of
from topcoat.errors import DataError, ModelError
from topcoat.pictures import FORMATS, read_picture
from topcoat.pictures.formats import format_of
from topcoat.pictures.provenance import records_of

SETTINGS = Settings(head="a head", head_digest="0123", strength=1.0)


def inverted(images: np.ndarray) -> tuple[np.ndarray, Sequence[Any]]:
    """A head that anyone can check."""
    return (255 - images if images.dtype == np.uint8 else 1 - images), ()


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    made: list[Job] = []
    for number in range(8):
        source = tmp_path / f"{number}.png"
        Image.fromarray(np.full((8, 9, 3), 10 * number, np.uint8)).save(source)
        made.append(Job(source, tmp_path / "out" / source.name, FORMATS["png"]))
    return made


def run(jobs: Sequence[Job], settings: Settings = SETTINGS, head: Any = inverted, workers: int = 2) -> list[Outcome]:
    return list(enhance_files(jobs, head, settings, workers))


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_pictures_are_enhanced_in_order_for_any_number_of_threads(workers: int, jobs: list[Job]) -> None:
    outcomes = run(jobs, workers=workers)
    assert [outcome.job for outcome in outcomes] == jobs and {outcome.status for outcome in outcomes} == {"enhanced"}
    for number, job in enumerate(jobs):
        picture = read_picture(job.target)
        assert (picture.samples == 255 - 10 * number).all()
        (record,) = records_of(picture.metadata.xmp)
        assert (record.head, record.head_digest, record.strength) == ("a head", "0123", "1")
    assert sorted(path.name for path in jobs[0].target.parent.iterdir()) == [job.target.name for job in jobs]


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif", ".bmp"])
def test_what_is_done_is_not_done_again(suffix: str, mark: bool, jobs: list[Job]) -> None:
    jobs = [replace(job, target=job.target.with_suffix(suffix), format=format_of("a" + suffix)) for job in jobs]
    settings = replace(SETTINGS, mark=mark)
    run(jobs[:4], settings)
    times = {job: job.target.stat().st_mtime_ns for job in jobs[:4]}
    jobs[1].target.unlink()
    statuses = [outcome.status for outcome in run(jobs, settings)]
    assert statuses == ["done before", "enhanced", "done before", "done before", *["enhanced"] * 4]
    assert all(job.target.stat().st_mtime_ns == times[job] for job in (jobs[0], jobs[2], jobs[3]))
    assert [state_of(job, settings).status for job in jobs] == ["done before"] * 8
    assert (jobs[0].target.parent / NAME).exists() == (not mark)
    if not mark:
        assert read_picture(jobs[0].target).metadata.xmp is None


def test_a_list_that_a_crash_cut_off_costs_one_picture(jobs: list[Job]) -> None:
    settings = replace(SETTINGS, mark=False)
    run(jobs, settings, workers=1)
    listed = jobs[0].target.parent / NAME
    listed.write_text(listed.read_text()[:-20])
    assert [outcome.status for outcome in run(jobs, settings)] == ["done before"] * 7 + ["there already"]


@pytest.mark.parametrize(
    "change", [{"strength": 0.5}, {"head_digest": "4567"}, {"quality": 90}, {"gates": "0.9 True"}, {"mark": False}]
)
def test_other_settings_ask_before_they_replace(change: dict[str, Any], jobs: list[Job]) -> None:
    run(jobs[:1])
    before = jobs[0].target.read_bytes()
    settings = replace(SETTINGS, **change)
    (outcome,) = run(jobs[:1], settings)
    assert (
        outcome.status == "there already" and "--overwrite" in outcome.reason and jobs[0].target.read_bytes() == before
    )
    (outcome,) = run(jobs[:1], replace(settings, overwrite=True))
    assert outcome.status == "enhanced" and jobs[0].target.read_bytes() != before


def test_a_changed_input_asks_too(jobs: list[Job]) -> None:
    run(jobs[:1])
    Image.new("RGB", (8, 8)).save(jobs[0].source)
    assert run(jobs[:1])[0].status == "there already"


def test_a_file_that_is_not_ours_stays(jobs: list[Job]) -> None:
    jobs[0].target.parent.mkdir()
    jobs[0].target.write_text("mine")
    assert run(jobs[:1])[0].status == "there already" and jobs[0].target.read_text() == "mine"


def test_a_bad_picture_does_not_stop_the_others(jobs: list[Job]) -> None:
    jobs[2].source.write_bytes(b"")
    jobs[3].source.unlink()

    def head(images: np.ndarray) -> tuple[np.ndarray, Sequence[Any]]:
        if images[0, 0, 0, 0] == 50:
            raise ModelError("the head gave values that are not finite")
        return inverted(images)

    outcomes = run(jobs, head=head)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert [outcome.job for outcome in failed] == [jobs[2], jobs[3], jobs[5]]
    for outcome, says in zip(failed, ("empty", "does not exist", "not finite"), strict=True):
        assert str(outcome.job.source) in outcome.reason and says in outcome.reason
        assert not outcome.job.target.exists()
    assert sum(outcome.status == "enhanced" for outcome in outcomes) == 5


def test_a_full_disk_stops_the_work_and_leaves_nothing_half_written(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.write_bytes
    written: list[Path] = []

    def write_bytes(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 2:
            original(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    outcomes = run(jobs, workers=1)
    statuses = [outcome.status for outcome in outcomes]
    assert statuses[:3] == ["enhanced", "enhanced", "failed"] and statuses[-1] == "not begun" and len(outcomes) == 8
    assert "the disk is full" in outcomes[2].reason and ".tmp" not in outcomes[2].reason
    assert sorted(path.name for path in jobs[0].target.parent.iterdir()) == ["0.png", "1.png"]
    monkeypatch.undo()
    assert [outcome.status for outcome in run(jobs)] == ["done before"] * 2 + ["enhanced"] * 6


def test_queues_are_bounded_and_stages_overlap(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, encoded, most_ahead = [0], [0], [0]
    lock = threading.Lock()
    decode, encode = work.decode_picture, work.encode_picture

    def counted_decode(*arguments: Any) -> Any:
        with lock:
            decoded[0] += 1
            most_ahead[0] = max(most_ahead[0], decoded[0] - encoded[0])
        return decode(*arguments)

    def slow_encode(*arguments: Any) -> Any:
        time.sleep(0.05)
        with lock:
            encoded[0] += 1
        return encode(*arguments)

    monkeypatch.setattr(work, "decode_picture", counted_decode)
    monkeypatch.setattr(work, "encode_picture", slow_encode)
    many = [replace(job, target=job.target.with_name(f"{turn}-{job.target.name}")) for turn in range(5) for job in jobs]
    assert len(run(many, workers=2)) == 40
    assert 2 < most_ahead[0] <= 2 * (2 + 1) + 1


def test_an_interrupt_leaves_whole_files_and_goes_on(jobs: list[Job]) -> None:
    seen: list[int] = []

    def head(images: np.ndarray) -> tuple[np.ndarray, Sequence[Any]]:
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return inverted(images)

    with pytest.raises(KeyboardInterrupt):
        run(jobs, head=head)
    done = sorted(jobs[0].target.parent.iterdir())
    assert all(path.name[0].isdigit() for path in done) and len(done) <= 3
    statuses = [outcome.status for outcome in run(jobs)]
    assert statuses.count("done before") == len(done) and statuses.count("enhanced") == 8 - len(done)


def test_notes_say_what_a_result_lacks(tmp_path: Path, jobs: list[Job]) -> None:
    Image.fromarray(np.arange(0, 40000, 100, dtype=np.uint16).reshape(20, 20)).save(tmp_path / "deep.png")
    (outcome,) = run([Job(tmp_path / "deep.png", tmp_path / "out" / "deep.jpg", FORMATS["jpeg"])])
    assert "16 bits" in outcome.notes[0]
    Image.new("RGB", (9, 9)).save(tmp_path / "wrong.png", "JPEG")
    (outcome,) = run([Job(tmp_path / "wrong.png", tmp_path / "out" / "wrong.png", FORMATS["png"])])
    assert "JPEG in spite of its name" in outcome.notes[0]
    with Image.open(tmp_path / "out" / "wrong.png") as picture:
        assert picture.format == "PNG"


def test_a_damaged_xmp_is_kept_without_a_mark(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.webp", xmp=b"<broken", lossless=True)
    (outcome,) = run([Job(tmp_path / "a.webp", tmp_path / "out" / "a.webp", FORMATS["webp"])])
    assert "XMP is damaged" in outcome.notes[0]
    assert read_picture(tmp_path / "out" / "a.webp").metadata.xmp == b"<broken"


def test_a_signature_that_cannot_be_made_is_a_sentence(jobs: list[Job]) -> None:
    class Signer:
        def sign(self, *given: Any) -> bytes:
            raise DataError("the picture could not be signed (expired); check the certificate")

    settings = replace(SETTINGS, signer=Signer())
    (outcome,) = run(jobs[:1], settings)
    assert outcome.status == "failed" and "0.png" in outcome.reason and "expired" in outcome.reason
    assert not jobs[0].target.exists()
