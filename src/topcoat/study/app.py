"""The server of a blind study: pages and pictures for raters, their votes into the store.

Nothing that it sends tells which arm a picture is of: a picture's address is the rater's link with a position and a
place, its file has the size of its neighbour's, and no header depends on it. Pages ask for nothing from elsewhere.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.study.pages import ASSETS, asset, render
from topcoat.study.pictures import MEDIA_TYPE
from topcoat.study.plan import IMAGES_FOLDER, Choice, StudyPlan, read_plan
from topcoat.study.store import MOST_DWELL_SECONDS, Rater, Store

MOST_RATERS = 1000
AHEAD = 3
"""Comparisons whose pictures are given out before their turn, for the page to load early."""
_SECONDS_EACH = 7
_MOST_BODY_BYTES = 4096
_NO_RATER = "This link belongs to nobody in this study. It may be incomplete, or its answers were deleted."
_BROWSER, _LINK = "study-browser", "study-link"
_YEAR_SECONDS = 365 * 86_400
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
}


class Answer(StrictModel):
    """What the page sends for one comparison."""

    position: int = Field(ge=0)
    choice: Choice
    dwell_seconds: float = Field(ge=0, le=MOST_DWELL_SECONDS)
    width_px: int = Field(ge=0, le=100_000)
    height_px: int = Field(ge=0, le=100_000)


def create_app(folder: Path, *, most_raters: int = MOST_RATERS) -> FastAPI:
    """The application of one study folder; it owns the store until it shuts down.

    Raises `DataError` for a folder that holds no study, or one whose plan was changed.
    """
    plan = read_plan(folder)
    store = Store(folder, plan)

    @asynccontextmanager
    async def until_shutdown(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(title="topcoat study", docs_url=None, redoc_url=None, openapi_url=None, lifespan=until_shutdown)

    @app.middleware("http")
    async def _add_headers(request: Request, call_next: Any) -> Response:
        if _is_too_large(request):
            return JSONResponse({"error": f"give at most {_MOST_BODY_BYTES} bytes, and say how many"}, 413)
        response: Response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(StarletteHTTPException)
    async def _explain(request: Request, error: StarletteHTTPException) -> Response:
        page = render("message.html.j2", plan=plan, title="Not found", text=str(error.detail))
        return HTMLResponse(page, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def _refuse(request: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if part != "body")
        return JSONResponse({"error": f"{where or 'the answer'}: {problem['msg']}"}, 422)

    def rater_of(token: str) -> Rater:
        rater = store.rater(token)
        if rater is None:
            raise HTTPException(404, _NO_RATER)
        return rater

    def page_of(rater: Rater, token: str, template: str, request: Request) -> Response:
        link = str(request.url_for("rater_page", token=token))
        return HTMLResponse(render(template, plan=plan, rater=rater, token=token, link=link))

    @app.get("/")
    def start_page(request: Request) -> Response:
        token = request.cookies.get(_LINK, "")
        begun = store.rater(token) if token else None
        full = store.count() >= most_raters
        comparisons = plan.votes_per_rater + plan.checks_per_rater
        minutes = max(1, round(comparisons * _SECONDS_EACH / 60))
        page = render(
            "start.html.j2",
            plan=plan,
            comparisons=comparisons,
            minutes=minutes,
            full=full,
            begun=begun,
            link=f"/r/{token}",
        )
        return HTMLResponse(page)

    @app.post("/start")
    async def start(request: Request) -> Response:
        if parse_qs((await request.body()).decode("latin-1")).get("consent") != ["yes"]:
            return RedirectResponse("/", 303)
        browser = request.cookies.get(_BROWSER, "")
        if not (browser.isalnum() and len(browser) == 32):
            browser = secrets.token_hex(16)
        address = request.client.host if request.client else ""
        network = store.network_code(address, request.headers.get("user-agent", ""))
        if await run_in_threadpool(store.count) >= most_raters:
            return RedirectResponse("/", 303)
        token = await run_in_threadpool(store.start, browser, network)
        response = RedirectResponse(f"/r/{token}", 303)
        for name, value in ((_BROWSER, browser), (_LINK, token)):
            response.set_cookie(
                name, value, max_age=_YEAR_SECONDS, httponly=True, samesite="lax", secure=request.url.scheme == "https"
            )
        return response

    @app.get("/r/{token}")
    def rater_page(token: str, request: Request) -> Response:
        rater = rater_of(token)
        template = "done.html.j2" if len(rater.votes) == len(rater.trials) else "vote.html.j2"
        return page_of(rater, token, template, request)

    @app.get("/r/{token}/own")
    def own_page(token: str, request: Request) -> Response:
        return page_of(rater_of(token), token, "done.html.j2", request)

    @app.get("/r/{token}/state")
    def state(token: str) -> dict[str, Any]:
        return _state(plan, rater_of(token))

    @app.post("/r/{token}/vote")
    def vote(token: str, answer: Answer) -> Any:
        rater_of(token)
        try:
            store.vote(token, answer.position, answer.choice, answer.dwell_seconds, answer.width_px, answer.height_px)
        except UsageError as error:
            return JSONResponse({"error": str(error)}, 409)
        return _state(plan, rater_of(token))

    @app.get("/r/{token}/{position}/{place}")
    def picture(token: str, position: int, place: Literal["1", "2"]) -> Response:
        rater = rater_of(token)
        if not 0 <= position < min(len(rater.trials), len(rater.votes) + AHEAD):
            raise HTTPException(404, "This picture is not to be seen now.")
        trial = rater.trials[position]
        name = plan.subjects[trial.subject].files[trial.arms[int(place) - 1]]
        data = (folder / IMAGES_FOLDER / name).read_bytes()
        return Response(data, media_type=MEDIA_TYPE, headers={"Cache-Control": "private, max-age=86400, immutable"})

    @app.get("/r/{token}/data")
    def data_of(token: str) -> Response:
        disposition = {"Content-Disposition": 'attachment; filename="my-answers.json"'}
        return JSONResponse(rater_of(token).as_dict(), headers=disposition)

    @app.post("/r/{token}/delete")
    def delete(token: str) -> Response:
        store.delete(rater_of(token).number)
        response = RedirectResponse("/deleted", 303)
        response.delete_cookie(_LINK)
        return response

    @app.get("/deleted")
    def deleted() -> Response:
        text = "Everything that was stored of you is deleted. Thank you all the same."
        return HTMLResponse(render("message.html.j2", plan=plan, title="Deleted", text=text))

    @app.get("/assets/{name}")
    def asset_file(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404, "There is no such page.")
        return Response(asset(name), media_type=ASSETS[name])

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _is_too_large(request: Request) -> bool:
    """Whether a body is longer than an answer, or does not say how long it is."""
    length = request.headers.get("content-length", "")
    return request.method not in ("GET", "HEAD") and not (length.isdigit() and int(length) <= _MOST_BODY_BYTES)


def _state(plan: StudyPlan, rater: Rater) -> dict[str, Any]:
    """How far a rater is, and the sizes of the next pictures; no word of what they are."""
    done = len(rater.votes)
    ahead = rater.trials[done : done + AHEAD]
    sizes = [(plan.subjects[trial.subject].width_px, plan.subjects[trial.subject].height_px) for trial in ahead]
    upcoming = [
        {"position": done + place, "width_px": width, "height_px": height}
        for place, (width, height) in enumerate(sizes)
    ]
    return {"answered": done, "total": len(rater.trials), "upcoming": upcoming}
