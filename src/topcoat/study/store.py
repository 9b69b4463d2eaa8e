"""Raters and their votes in SQLite. Once `vote` has returned, the vote survives a kill and a power cut.

The write-ahead log lets `read_votes` look while the server writes; ``synchronous = FULL`` syncs the log at each commit.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from topcoat.errors import DataError, UsageError
from topcoat.study.plan import VOTES_FILE, Choice, StudyPlan, Trial, trials_of

_SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE raters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    started REAL NOT NULL,
    browser TEXT NOT NULL,
    network TEXT NOT NULL,
    trials TEXT NOT NULL
);
CREATE TABLE votes (
    rater INTEGER NOT NULL REFERENCES raters (number) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('1', '2', '0')),
    dwell_seconds REAL NOT NULL,
    received REAL NOT NULL,
    width_px INTEGER NOT NULL,
    height_px INTEGER NOT NULL,
    PRIMARY KEY (rater, position)
) WITHOUT ROWID;
"""
_CHOICES = get_args(Choice)
MOST_DWELL_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer."""

    position: int
    choice: Choice
    dwell_seconds: float
    """From the moment both pictures were visible, without the time in which the page was hidden."""
    received: float
    """Seconds since 1970, by the server's clock."""
    width_px: int
    height_px: int
    """The window."""


@dataclass(frozen=True, slots=True)
class Rater:
    """One person, as far as the study knows."""

    number: int
    """From 1, in the order of their start; never used twice."""
    started: float
    browser: str
    network: str
    trials: tuple[Trial, ...]
    votes: tuple[Vote, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything that is stored of the rater but their link, ready for JSON; what they were shown stays blind."""
        votes = [{name: getattr(vote, name) for name in Vote.__slots__} for vote in self.votes]
        own = {"rater": self.number, "started": self.started, "browser": self.browser, "network": self.network}
        return {**own, "comparisons": len(self.trials), "votes": votes}


class Store:
    """The votes of one study folder. One server writes; its threads may share a store."""

    def __init__(self, folder: Path, plan: StudyPlan) -> None:
        """Open ``votes.sqlite``, or make it; raises `DataError` where ``plan`` is not the one that it was made for."""
        self.path = folder / VOTES_FILE
        self._plan = plan
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
        except sqlite3.Error as error:
            raise DataError(f"{self.path} cannot be opened ({error}); check that its folder is writable") from error
        try:
            self._secret = self._prepare()
            _check_plan(self._connection, plan, folder)
        except sqlite3.Error as error:
            self.close()
            raise DataError(f"{self.path} cannot be used ({error}); check that it is writable and whole") from error
        except DataError:
            self.close()
            raise

    def _prepare(self) -> bytes:
        """Set durability, make the tables of a new file, and read the secret of network codes."""
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            self._connection.execute(f"PRAGMA {setting}")
        with self._transaction() as database:
            if not _tables(database):
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                values = {"plan": self._plan.digest, "secret": secrets.token_hex(32), "deleted": "0"}
                database.executemany("INSERT INTO study VALUES (?, ?)", values.items())
        return bytes.fromhex(_value(self._connection, "secret"))

    def close(self) -> None:
        """Write the log back into the file."""
        with self._lock:
            self._connection.close()

    def network_code(self, address: str, browser: str) -> str:
        """What is stored of a network address and kind of browser: a code under a secret of this study."""
        return hmac.new(self._secret, f"{address}\n{browser}".encode(), hashlib.sha256).hexdigest()[:16]

    def start(self, browser: str, network: str) -> str:
        """A new rater; returns the secret token of their link, of which a digest alone is stored."""
        token = secrets.token_urlsafe(16)
        with self._transaction() as database:
            cursor = database.execute(
                "INSERT INTO raters (token, started, browser, network, trials) VALUES (?, ?, ?, ?, '')",
                (_digest(token), time.time(), browser, network),
            )
            number = cursor.lastrowid
            assert number is not None
            trials = [(trial.subject, trial.comparison, trial.arms) for trial in trials_of(self._plan, number - 1)]
            database.execute("UPDATE raters SET trials = ? WHERE number = ?", (json.dumps(trials), number))
        return token

    def count(self) -> int:
        """Raters that have started and are still there."""
        with self._lock:
            return self._connection.execute("SELECT count(*) FROM raters").fetchone()[0]

    def rater(self, token: str) -> Rater | None:
        """Whose link it is, with the votes so far; None where nobody's, or a deleted one's."""
        with self._lock:
            found = _raters(self._connection, "WHERE token = ?", _digest(token))
        return found[0] if found else None

    def vote(
        self, token: str, position: int, choice: Choice, dwell_seconds: float, width_px: int = 0, height_px: int = 0
    ) -> bool:
        """Store an answer; False where the rater has answered that already, and what is stored stays.

        Answers come in order: raises `UsageError` for a position that is not the next one, or a value that is none.
        """
        if choice not in _CHOICES or not 0 <= dwell_seconds <= MOST_DWELL_SECONDS:
            raise UsageError(f"the answer {choice!r} after {dwell_seconds} s is none; give 1, 2 or 0 and a time")
        with self._transaction() as database:
            found = _raters(database, "WHERE token = ?", _digest(token))
            if not found:
                raise UsageError("this link belongs to no rater of the study; start anew")
            rater = found[0]
            done = len(rater.votes)
            if 0 <= position < done:
                return False
            if position != done or position >= len(rater.trials):
                raise UsageError(f"the answer is to comparison {position + 1}, and the next one is {done + 1}")
            row = (rater.number, position, choice, dwell_seconds, time.time(), width_px, height_px)
            database.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return True

    def delete(self, number: int) -> None:
        """Remove a rater and their votes, from the file and its log; raises `UsageError` where there is none."""
        with self._transaction() as database:
            if not database.execute("DELETE FROM raters WHERE number = ?", (number,)).rowcount:
                raise UsageError(f"there is no rater {number} in this study; topcoat study raters lists them")
            database.execute("UPDATE study SET value = value + 1 WHERE key = 'deleted'")
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def read_raters(folder: Path, plan: StudyPlan) -> tuple[list[Rater], int]:
    """All raters with their votes, and how many were deleted; a server may run meanwhile.

    Raises `DataError` where the votes belong to another plan, or the file is damaged.
    """
    path = folder / VOTES_FILE
    if not path.is_file():
        return [], 0
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            if not _tables(connection):
                return [], 0
            _check_plan(connection, plan, folder)
            connection.execute("BEGIN")  # one state of the file for all that is read
            return _raters(connection), int(_value(connection, "deleted"))
    except sqlite3.Error as error:
        raise DataError(f"{path} cannot be read ({error}); is it a study's file of votes?") from error


def _raters(connection: sqlite3.Connection, where: str = "", *values: object) -> list[Rater]:
    rows = connection.execute(
        f"SELECT number, started, browser, network, trials FROM raters {where} ORDER BY number", values
    ).fetchall()
    columns = "position, choice, dwell_seconds, received, width_px, height_px"
    raters: list[Rater] = []
    for number, started, browser, network, trials in rows:
        votes = connection.execute(f"SELECT {columns} FROM votes WHERE rater = ? ORDER BY position", (number,))
        shown = tuple(Trial(subject, comparison, tuple(arms)) for subject, comparison, arms in json.loads(trials))
        raters.append(Rater(number, started, browser, network, shown, tuple(Vote(*vote) for vote in votes)))
    return raters


def _check_plan(connection: sqlite3.Connection, plan: StudyPlan, folder: Path) -> None:
    if _value(connection, "plan") != plan.digest:
        raise DataError(
            f"the plan in {folder} is not the one that its votes were given under; put back the study.json that "
            "topcoat study create wrote, or create another study"
        )


def _tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'votes'").fetchone() is not None


def _value(connection: sqlite3.Connection, key: str) -> str:
    return connection.execute("SELECT value FROM study WHERE key = ?", (key,)).fetchone()[0]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
