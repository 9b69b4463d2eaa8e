"""The HTTP app around an engine: the OpenAI Images convention, health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, TypeVar

import pydantic
from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from topcoat import __version__
from topcoat.errors import DataError, UsageError
from topcoat.serving.engine import Engine, Upload
from topcoat.serving.guard import Guard
from topcoat.serving.measures import Measured, Measures
from topcoat.serving.problems import ERROR_SCHEMA, add_error_handlers
from topcoat.serving.schema import EditFields, GenerateBody, ModelNotFoundError, answer_body, model_names, size_of

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_FORM_FIELDS, _FIELD_BYTES = 64, 2**16
_IMAGES = ("image", "image[]")
_PROBLEM = {"description": "What is wrong, in one sentence.", "content": {"application/json": {"schema": ERROR_SCHEMA}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}},
    "4XX": dict(_PROBLEM),
    "5XX": dict(_PROBLEM),
}


def create_app(
    engine: Engine,
    *,
    keys: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    cors_origins: Sequence[str] = (),
    log_prompts: bool = False,
) -> FastAPI:
    """The app; whoever makes it starts and closes ``engine``. A page may be mounted in it, at ``/``.

    With ``keys`` everything but health asks for one of them. ``hosts`` are the names by which the server may be called,
    None for any; pages of ``cors_origins`` may call it.
    """
    app = FastAPI(title="topcoat", version=__version__, docs_url=None, redoc_url=None)
    measures = Measures(engine.load)
    add_error_handlers(app)
    _add_state(app, engine, measures)
    _add_images(app, engine, measures, log_prompts=log_prompts)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=cors_origins, allow_methods=["*"], allow_headers=["Authorization", "*"]
        )
    app.add_middleware(
        Guard,
        keys=keys,
        hosts=hosts,
        origins=cors_origins,
        max_bytes=engine.config.max_upload_bytes,
        max_bodies=4 * engine.config.max_queue,
    )
    app.add_middleware(Measured, measures=measures)
    return app


def _add_state(app: FastAPI, engine: Engine, measures: Measures) -> None:
    @app.get("/health", responses=_RESPONSES)
    async def health() -> JSONResponse:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/ready", responses=_RESPONSES)
    async def ready() -> JSONResponse:
        """Whether requests are taken: 503 while models are loaded and at the end."""
        return JSONResponse({"ready": engine.ready}, 200 if engine.ready else 503)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Counters in Prometheus' format."""
        return Response(measures.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", responses=_RESPONSES)
    async def models() -> JSONResponse:
        """What is served, as OpenAI lists it."""
        engine.admission.check_open()
        return JSONResponse({"object": "list", "data": _models(engine)})

    @app.get("/v1/models/{name}", responses=_RESPONSES)
    async def model(name: str) -> JSONResponse:
        """One of them."""
        engine.admission.check_open()
        found = next((each for each in _models(engine) if each["id"] == name), None)
        if found is None:
            known = ", ".join(model_names(engine.catalogue))
            raise ModelNotFoundError(f"no model of this name is served; use one of: {known}")
        return JSONResponse(found)


def _models(engine: Engine) -> list[dict[str, Any]]:
    pair, heads = engine.catalogue.pair, {head.name: head for head in engine.catalogue.heads}
    entries: list[dict[str, Any]] = []
    for name, side in model_names(engine.catalogue).items():
        if side is None:
            head = heads[name]
            own = {"serves": "edits", "kind": head.kind, "digest": head.digest, "licence": head.licence}
        else:
            assert pair is not None
            spec = pair.distilled if side == "distilled" else pair.baseline
            sizes = [f"{width}x{height}" for width, height in engine.catalogue.sizes_px]
            behind = [head.name for head in heads.values() if head.generates] if side == "distilled" else []
            licence = f"{spec.licence.name} ({spec.licence.url})"
            own = {"serves": "generations", "sizes": sizes, "steps": spec.steps, "heads": behind, "licence": licence}
        entries.append({"id": name, "object": "model", "created": 0, "owned_by": "topcoat", "topcoat": own})
    return entries


def _add_images(app: FastAPI, engine: Engine, measures: Measures, *, log_prompts: bool) -> None:
    @app.post("/v1/images/generations", responses=_RESPONSES)
    async def generations(request: Request, body: Annotated[GenerateBody, Body()]) -> Response:
        """Images of a prompt: the distilled model, then the head."""
        engine.admission.check_open()
        if log_prompts:
            _LOG.info("prompt: %r", body.prompt)
        quality = body.encoding_quality
        work = engine.generate(
            body.subjects(), body.settings(engine.catalogue), format_name=body.format_name, quality=quality
        )
        answer = await _unless_gone(request, work)
        measures.answered("/v1/images/generations", answer)
        model = body.model or next(iter(model_names(engine.catalogue)))
        content = await asyncio.to_thread(answer_body, answer, model, body.ignored)
        return Response(content, media_type="application/json")

    @app.post("/v1/images/edits", responses=_RESPONSES, openapi_extra={"requestBody": _edit_schema()})
    async def edits(request: Request) -> Response:
        """Pictures that are sent, through the head; a mask says where."""
        engine.admission.check_open()
        form = request.form(max_files=2 * engine.config.max_images, max_fields=_FORM_FIELDS, max_part_size=_FIELD_BYTES)
        async with form as fields:
            asked = _edit_fields(fields)
            uploads = await _uploads(fields, engine)
        settings, quality = asked.settings(engine.catalogue), asked.encoding_quality
        if size_of(asked.size) is not None:
            raise UsageError("an edit keeps the size of its picture; leave size out, or say auto")
        work = engine.enhance(uploads, settings, format_name=asked.format_name, quality=quality)
        answer = await _unless_gone(request, work)
        measures.answered("/v1/images/edits", answer)
        model = asked.model or settings.head
        content = await asyncio.to_thread(answer_body, answer, model, asked.ignored)
        return Response(content, media_type="application/json")


def _edit_fields(form: FormData) -> EditFields:
    """The fields that are no files; raises as FastAPI does for a body of its own."""
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in (*_IMAGES, "mask"):
                raise UsageError(f"the file {name[:60]!r} has no place; send image, image[] or mask")
        elif name in _IMAGES or name == "mask":
            raise UsageError(f"{name} is a text; send the bytes of a picture as a file, no address is ever fetched")
        elif name in texts:
            raise UsageError(f"{name[:60]!r} is there twice; send it once")
        elif value != "":
            texts[name] = value
    try:
        return EditFields.model_validate(texts)
    except pydantic.ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None


async def _uploads(form: FormData, engine: Engine) -> list[Upload]:
    files = [value for name in _IMAGES for value in form.getlist(name) if isinstance(value, UploadFile)]
    masks = [value for value in form.getlist("mask") if isinstance(value, UploadFile)]
    if not files:
        raise DataError("no picture was sent; send one as the file image")
    if len(masks) > 1 or (masks and len(files) > 1):
        raise UsageError("a mask is for one picture; send one picture with one mask")
    mask = await masks[0].read() if masks else None
    names = ["the picture"] if len(files) == 1 else [f"picture {number}" for number in range(1, len(files) + 1)]
    return [Upload(await file.read(), mask, name) for file, name in zip(files, names, strict=True)]


def _edit_schema() -> dict[str, Any]:
    """The body of an edit for the OpenAPI document."""
    schema = EditFields.model_json_schema()
    file = {"type": "string", "format": "binary"}
    schema["properties"] |= {"image": file, "image[]": {"type": "array", "items": file}, "mask": file}
    schema["required"] = ["image"]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client leaves."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(499, "the client has left")
    finally:
        for task in (working, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
