"""Votes are there once they are acknowledged, come in order, and are gone once they are deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from topcoat.errors import DataError, UsageError
from topcoat.study.plan import StudyPlan, trials_of
from topcoat.study.store import Store, read_raters


@pytest.fixture
def store(study: tuple[Path, StudyPlan]) -> Iterator[Store]:
    with closing(Store(*study)) as opened:
        yield opened


def test_votes_are_read_while_the_store_is_open(store: Store, study: tuple[Path, StudyPlan]) -> None:
    token = store.start("browser", "network")
    assert store.vote(token, 0, "1", 2.5, 1280, 800)
    raters, deleted = read_raters(*study)
    assert deleted == 0 and len(raters) == 1
    (rater,) = raters
    assert rater == store.rater(token)
    assert (rater.number, rater.browser, rater.network) == (1, "browser", "network")
    assert list(rater.trials) == trials_of(study[1], 0)
    (vote,) = rater.votes
    assert (vote.position, vote.choice, vote.dwell_seconds, vote.width_px, vote.height_px) == (0, "1", 2.5, 1280, 800)


def test_commits_are_synced_and_logged_ahead(store: Store) -> None:
    connection = store._connection
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_an_answer_that_is_sent_again_changes_nothing(store: Store) -> None:
    token = store.start("b", "n")
    assert store.vote(token, 0, "1", 1.0)
    assert not store.vote(token, 0, "2", 9.0)
    rater = store.rater(token)
    assert rater is not None and [vote.choice for vote in rater.votes] == ["1"]


@pytest.mark.parametrize(("position", "choice", "seconds"), [(1, "1", 1), (-1, "1", 1), (0, "3", 1), (0, "1", -1)])
def test_answers_out_of_order_and_of_no_sense_are_refused(
    store: Store, position: int, choice: str, seconds: float
) -> None:
    token = store.start("b", "n")
    with pytest.raises(UsageError):
        store.vote(token, position, choice, seconds)  # type: ignore[arg-type]
    rater = store.rater(token)
    assert rater is not None and not rater.votes


def test_there_is_nothing_after_the_last_comparison(store: Store) -> None:
    token = store.start("b", "n")
    for position in range(8):
        assert store.vote(token, position, "0", 1.0)
    with pytest.raises(UsageError, match="comparison 9"):
        store.vote(token, 8, "0", 1.0)


def test_nobody_votes_with_a_wrong_link(store: Store) -> None:
    with pytest.raises(UsageError, match="no rater"):
        store.vote("nobody", 0, "1", 1.0)
    assert store.rater("nobody") is None


def test_links_are_not_stored(store: Store, study: tuple[Path, StudyPlan]) -> None:
    token = store.start("b", "n")
    store.close()
    assert token.encode() not in (study[0] / "votes.sqlite").read_bytes()


def test_a_deleted_rater_is_gone_from_the_files(store: Store, study: tuple[Path, StudyPlan]) -> None:
    browser = "0123456789abcdef" * 2
    token = store.start(browser, "n")
    other = store.start("another", "m")
    store.vote(token, 0, "1", 1.0)
    store.delete(1)
    assert store.rater(token) is None
    left = b"".join(path.read_bytes() for path in study[0].glob("votes.sqlite*"))
    assert browser.encode() not in left and b"another" in left
    raters, deleted = read_raters(*study)
    assert [rater.number for rater in raters] == [2] and deleted == 1
    assert store.rater(other) is not None
    store.start("third", "n")
    assert [rater.number for rater in read_raters(*study)[0]] == [2, 3]  # a number is never used twice
    with pytest.raises(UsageError, match="no rater 1"):
        store.delete(1)


def test_a_plan_that_was_changed_after_creation_is_refused(study: tuple[Path, StudyPlan]) -> None:
    folder, plan = study
    changed = StudyPlan.model_validate(plan.model_dump() | {"margin": 0.2})
    for opened in (Store, read_raters):
        with pytest.raises(DataError, match="not the one that its votes were given under"):
            opened(folder, changed)


def test_a_damaged_file_is_one_sentence(study: tuple[Path, StudyPlan]) -> None:
    (study[0] / "votes.sqlite").write_bytes(b"not a database" * 100)
    for opened in (Store, read_raters):
        with pytest.raises(DataError, match=r"votes\.sqlite"):
            opened(*study)


def test_codes_of_addresses_depend_on_the_study(store: Store, study: tuple[Path, StudyPlan]) -> None:
    code = store.network_code("192.0.2.7", "Firefox")
    assert len(code) == 16 and code != store.network_code("192.0.2.8", "Firefox")
    with closing(Store(*study)) as again:
        assert again.network_code("192.0.2.7", "Firefox") == code
    with closing(sqlite3.connect(study[0] / "votes.sqlite")) as database, database:
        database.execute("UPDATE study SET value = ? WHERE key = 'secret'", ("00" * 32,))
    with closing(Store(*study)) as other:
        assert other.network_code("192.0.2.7", "Firefox") != code
