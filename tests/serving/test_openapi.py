"""Requests that schemathesis makes from the server's own OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error

from tests.serving.conftest import Served

_SETTINGS = hypothesis.settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)


def _requests(operation: Any) -> int:
    """Makes requests of one operation; how many."""
    count = 0

    @hypothesis.given(case=operation.as_strategy())
    @_SETTINGS
    def ask(case: Any) -> None:
        nonlocal count
        count += 1
        case.validate_response(case.call(), checks=(not_a_server_error,))

    ask()
    return count


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_request_is_a_server_error(serve: Callable[..., Served]) -> None:
    served = serve()
    document: Any = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    asked = {operation.label: _requests(operation) for operation in operations}
    assert set(asked) >= {"POST /v1/images/generations", "POST /v1/images/edits", "GET /v1/models/{name}"}
    assert all(asked.values()) and served.engine.load.held == 0
