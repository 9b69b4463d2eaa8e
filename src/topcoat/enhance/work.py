"""The work: decoding, running the head and encoding overlap; a picture that fails is named and the others go on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topcoat.enhance.done import DoneFiles, job_in_file
from topcoat.enhance.faces import FaceDetector
from topcoat.enhance.jobs import PIPE, Job
from topcoat.enhance.masks import blended, mask_of
from topcoat.errors import DataError, TopcoatError
from topcoat.files import atomic_path, is_about_the_disk
from topcoat.pictures import Picture, decode_picture, encode_picture, seen_by_head, with_result
from topcoat.pictures.formats import Format
from topcoat.pictures.provenance import Record, marked
from topcoat.pictures.reading import named_otherwise, read_bytes
from topcoat.pictures.signing import Signer

Decision = Any
"""What the gates did with an image (`topcoat.gates.GateDecision`, which this room does not import)."""
Run = Callable[[np.ndarray], tuple[np.ndarray, Sequence[Decision]]]
"""A head at a strength: images ``(N, H, W, 3)``, sRGB, uint8 or float32 in [0, 1], to such images of the same type, and
one gate decision for each, or none without gates."""
Status = Literal["enhanced", "to do", "done before", "there already", "failed", "not begun"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What, with the input, decides how a result looks; and what becomes of files that are there."""

    head: str
    """Its name."""
    head_digest: str
    strength: float
    gates: str = ""
    """The gates' settings in words; empty without gates."""
    faces: FaceDetector | None = None
    """What finds the faces that alone are enhanced; None enhances the whole picture."""
    feather_px: int | None = None
    """Width of the soft edge of a mask file; None takes 1 % of the picture's shorter side."""
    quality: int | None = None
    mark: bool = True
    overwrite: bool = False
    signer: Signer | None = None

    def job(self, data: bytes, kind: Format | None, mask: bytes | None = None) -> str:
        """The digest of a picture's bytes, its mask's, and all settings that its result follows from."""
        format_name = "keep" if kind is None else kind.name
        signed = self.signer is not None
        parts = [self.head_digest, f"{self.strength:g}", self.gates, format_name, self.quality, self.mark, signed]
        if mask is not None or self.faces is not None:
            where = "" if mask is None else hashlib.sha256(mask).hexdigest()
            parts += [where, self.feather_px, self.faces is not None]
        text = json.dumps([hashlib.sha256(data).hexdigest(), *parts])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job."""

    job: Job
    status: Status
    reason: str = ""
    """A sentence, unless the picture was enhanced or done before."""
    notes: tuple[str, ...] = ()
    """What the result does not have of the file, each the end of a sentence."""
    decision: Decision | None = None
    stops: bool = False
    """Whether no other picture could be written either."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    job: Job
    data: bytes
    digest: str
    picture: Picture
    seen: np.ndarray
    mask: np.ndarray | None


def enhance_files(jobs: Sequence[Job], run: Run, settings: Settings, workers: int = 2) -> Iterator[Outcome]:
    """Do the jobs and yield what became of each, in their order.

    ``workers`` threads decode, as many encode, and the head runs in the caller's; each is at most ``workers + 1``
    pictures ahead of the next, so memory does not grow with the number of pictures. Where the disk is full or not
    writable the rest is not begun.
    """
    done = DoneFiles()
    waiting = iter(jobs)
    ahead = workers + 1
    decoding: deque[Future[_Decoded | Outcome]] = deque()
    encoding: deque[Future[Outcome]] = deque()
    stopped = False
    decoders, encoders = ThreadPoolExecutor(workers), ThreadPoolExecutor(workers)
    try:
        while True:
            while not stopped and len(decoding) < ahead and (job := next(waiting, None)) is not None:
                decoding.append(decoders.submit(_decoded, job, settings, done))
            if decoding:
                encoding.append(_run(decoding.popleft().result(), run, settings, done, encoders))
            while encoding and (not decoding or len(encoding) >= ahead or encoding[0].done()):
                outcome = encoding.popleft().result()
                stopped = stopped or outcome.stops
                yield outcome
            if not decoding and not encoding:
                break
        for job in waiting:
            reason = f"{job.source} was not begun, because its result could not be written either"
            yield Outcome(job, "not begun", reason)
    finally:
        decoders.shutdown(cancel_futures=True)
        encoders.shutdown(cancel_futures=True)


def state_of(job: Job, settings: Settings) -> Outcome:
    """What `enhance_files` would make of a job, without the work: an input that cannot be read is found too."""
    found = _decoded(job, settings, DoneFiles())
    return found if isinstance(found, Outcome) else Outcome(job, "to do", notes=found.picture.notes)


def _looked_up(job: Job, settings: Settings, done: DoneFiles) -> Outcome | tuple[bytes, bytes | None, str]:
    """The input, its mask and the digest of both, or why there is nothing to do."""
    try:
        data = sys.stdin.buffer.read() if job.source == PIPE else read_bytes(job.source)
        mask = None if job.mask is None else read_bytes(job.mask)
    except DataError as error:
        return Outcome(job, "failed", str(error))
    digest = settings.job(data, job.format, mask)
    if job.target == PIPE or settings.overwrite or not job.target.exists():
        return data, mask, digest
    if digest in (job_in_file(job.target), done.job_of(job.target)):
        return Outcome(job, "done before")
    reason = f"{job.target} is there already and is not what {job.source} would become; add --overwrite to replace it"
    return Outcome(job, "there already", reason)


def _decoded(job: Job, settings: Settings, done: DoneFiles) -> _Decoded | Outcome:
    found = _looked_up(job, settings, done)
    if isinstance(found, Outcome):
        return found
    data, mask, digest = found
    name = "standard input" if job.source == PIPE else str(job.source)
    try:
        picture = decode_picture(data, name)
        note = named_otherwise(job.source, picture)
        if note is not None:
            picture = replace(picture, notes=(*picture.notes, note))
        seen = seen_by_head(picture)
        given = None if mask is None or job.mask is None else (mask, job.mask)
        where = mask_of(picture, seen, given, settings.faces, settings.feather_px)
        if where is not None and not where.any():
            nothing = "no face was found" if settings.faces is not None else "its mask is black"
            picture = replace(picture, notes=(*picture.notes, f"nothing is changed, because {nothing}"))
        return _Decoded(job, data, digest, picture, seen, where)
    except TopcoatError as error:
        return Outcome(job, "failed", str(error))
    except MemoryError:
        return Outcome(job, "failed", f"{name} needs more memory than there is; use fewer --jobs or a smaller picture")


def _run(
    decoded: _Decoded | Outcome, run: Run, settings: Settings, done: DoneFiles, encoders: ThreadPoolExecutor
) -> Future[Outcome]:
    """The head's part, in this thread; the result's part as a future."""
    if isinstance(decoded, Outcome):
        outcome = decoded
    else:
        try:
            images, decisions = run(decoded.seen[None])
            return encoders.submit(_encoded, decoded, images[0], decisions[0] if decisions else None, settings, done)
        except TopcoatError as error:
            outcome = Outcome(decoded.job, "failed", f"{decoded.job.source}: {error}")
    finished: Future[Outcome] = Future()
    finished.set_result(outcome)
    return finished


def _encoded(
    decoded: _Decoded, image: np.ndarray, decision: Decision | None, settings: Settings, done: DoneFiles
) -> Outcome:
    job, source = decoded.job, decoded.picture
    try:
        picture = with_result(source, decoded.seen, blended(decoded.seen, image, decoded.mask))
        kind = job.format or source.format
        notes = list(source.notes)
        record = _record(decoded, decision, settings)
        mark = settings.mark and (decoded.mask is None or bool(decoded.mask.any()))
        if mark:
            metadata = marked(picture.metadata, record)
            if metadata is None:
                notes.append("its XMP is damaged, so it was kept as it is and no mark was added")
            else:
                picture = replace(picture, metadata=metadata)
        content, lost = encode_picture(picture, kind, settings.quality)
        if settings.signer is not None:
            content = settings.signer.sign(content, kind, record, (decoded.data, source.format))
            notes = [note for note in notes if "C2PA" not in note]
        _write(job.target, content)
        if not mark:
            done.add(job.target, decoded.digest)
        return Outcome(job, "enhanced", notes=(*notes, *lost), decision=decision)
    except TopcoatError as error:
        text = str(error)
        reason = text if str(job.source) in text or str(job.target) in text else f"{job.source}: {text}"
        return Outcome(job, "failed", reason, stops=is_about_the_disk(error))


def _record(decoded: _Decoded, decision: Decision | None, settings: Settings) -> Record:
    strength = settings.strength if decision is None else decision.strength
    parts = {"mask": decoded.job.mask is not None, "faces": settings.faces is not None}
    return Record(
        "enhance",
        head=settings.head,
        head_digest=settings.head_digest,
        strength=f"{strength:g}",
        gate=None if decision is None else decision.kept,
        where=" ".join(name for name, given in parts.items() if given) or None,
        job=decoded.digest,
    )


def _write(target: Path, content: bytes) -> None:
    if target == PIPE:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
