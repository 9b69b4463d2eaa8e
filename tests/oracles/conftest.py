"""Golden values: what no change of names or structure may move. Each test file begins with its adapters.

An adapter turns what the library gives into plain values under names of its own. When the library's names change, the
adapters change and the numbers in ``golden/`` do not. `tests.oracles.freeze` rewrites those.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracles.golden import Golden, machine

_unknown: list[str] = []


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """The golden values of the test file."""
    topic = request.path.stem.removeprefix("test_")
    values = Golden(topic)
    yield values
    values.save()
    if values.unknown_machine:
        _unknown.append(topic)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _unknown:
        terminalreporter.write_line(
            f"oracles: values compared, but not bit for bit ({', '.join(_unknown)}): no digests of this machine "
            f"({machine()}); to add them: python -m tests.oracles.freeze --machine, at a commit that is trusted"
        )
