"""Errors as HTTP answers, in OpenAI's shape: one sentence, a type, the field at fault and a code."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from topcoat.errors import DataError, TopcoatError, UsageError
from topcoat.serving.admission import BusyError, ClosingError, TooLateError
from topcoat.serving.schema import ModelNotFoundError

_LOG = logging.getLogger(__name__)
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_OWN_WORDS = {
    "Not Found": "there is nothing at this address; see /openapi.json",
    "Method Not Allowed": "this address does not take that method; see /openapi.json",
    "There was an error parsing the body": "the body is not valid JSON; correct it",
}
"""Starlette's and FastAPI's texts."""
SHOWN = 120  # characters of what was sent

ERROR_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def problem(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer to a request that failed."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Response(json.dumps({"error": error}), status, dict(headers or {}), "application/json")


def add_error_handlers(app: FastAPI) -> None:
    """Let ``app`` answer every error by `problem`."""
    app.add_exception_handler(TopcoatError, _of_topcoat)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _of_defect)


async def _of_topcoat(request: Request, error: Exception) -> Response:
    message = str(error)
    if isinstance(error, BusyError):
        retry = {"Retry-After": str(error.retry_after_seconds)}
        return problem(429, message, code="rate_limit_exceeded", headers=retry)
    if isinstance(error, ClosingError):
        return problem(503, message, code="unavailable", headers={"Retry-After": "5"})
    if isinstance(error, TooLateError):
        return problem(504, message, code="timeout")
    if isinstance(error, ModelNotFoundError):
        return problem(404, message, param="model", code="model_not_found")
    if isinstance(error, UsageError | DataError):
        return problem(400, message, code="invalid_image" if isinstance(error, DataError) else "invalid_value")
    _LOG.error("%s: %s", type(error).__name__, message)
    return problem(500, message, code="model_error")


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    sentence, param = validation_sentence(error.errors()[0])
    return problem(400, sentence, param=param, code="invalid_value")


def validation_sentence(item: Mapping[str, Any]) -> tuple[str, str | None]:
    """One error of pydantic as a sentence, and the field that it is about."""
    param = next((str(part) for part in item["loc"] if part not in ("body", "query", "path")), None)
    kind = item["type"]
    if kind == "json_invalid":
        return "the body is not valid JSON; correct it", None
    if kind == "extra_forbidden":
        return f"{_short(param)}: unknown field; leave it out", param
    if kind == "missing":
        return f"{param or 'the body'}: is missing; add it", param
    message, given = str(item["msg"]).removeprefix("Value error, "), _short(repr(item.get("input")))
    return f"{_short(param) or 'the body'}: {message[:1].lower()}{message[1:]}, not {given}", param


def _short(text: str | None) -> str:
    text = ascii(text)[1:-1] if text else ""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = _OWN_WORDS.get(str(error.detail), str(error.detail))
    return problem(error.status_code, message, headers=error.headers)


async def _of_defect(request: Request, error: Exception) -> Response:
    message = "something unexpected went wrong here; this is a defect of the server, whose log says more"
    return problem(500, message, code="internal_error")
