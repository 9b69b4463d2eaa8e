"""Writing files so that a crash, a full disk, Ctrl-C or a second process never leaves half of one behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from topcoat.errors import DataError

if TYPE_CHECKING:
    from jinja2 import Template

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "there is no permission to write there; choose another folder",
    errno.EPERM: "there is no permission to write there; choose another folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of its path is a file, not a folder; choose another folder",
    errno.EISDIR: "it is a folder; choose a file name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; renamed to ``path`` on success, removed on any error.

    Missing parent folders are made. The temporary name starts with a dot and ends in ``.tmp``, so writers that pick a
    format by suffix must be told the format. The caller writes the temporary file; writing nothing is an error. The
    file gets the mode that the umask (or the folder's ACL) gives, whatever its writer made of it.

    Raises `DataError` where the disk is full, the folder is read-only or the path cannot be a file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _new_file_mode(temporary)
        yield temporary
        handle = os.open(temporary, os.O_RDWR)
        try:
            if os.fstat(handle).st_mode != mode:
                os.chmod(temporary, mode & 0o777)  # safetensors makes files that their owner alone can read
            os.fsync(handle)  # without it a power cut can leave a renamed but empty file
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise DataError(f"cannot write {path}: {reason}") from error
    finally:
        # where the folder is not there or not ours nothing was left behind, and the first error is the story
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _new_file_mode(path: Path) -> int:
    """The mode of a new file at ``path``, which is made and removed: asking for the umask would change it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(handle).st_mode
    finally:
        os.close(handle)
        path.unlink()


def check_folder(folder: Path, *, make: bool) -> None:
    """Whether files can be written into ``folder``, before the work that makes them.

    ``make`` makes the folder and writes a byte into it; without that only what is there is looked at. Raises
    `DataError` where a part of the path is a file, or the folder is read-only or full.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0")
            return
        nearest = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
        if not nearest.is_dir():
            raise OSError(errno.ENOTDIR, "")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "")
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"{error.strerror}; choose another folder")
        raise DataError(f"cannot write into {folder}: {reason}") from error


def is_about_the_disk(error: BaseException) -> bool:
    """Whether a writing error will meet every other file as well: a disk that is full or read-only."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class FolderLock:
    """Held by the one process that writes into ``folder``, from the call to `release` or the end of a ``with``.

    The file ``.topcoat.lock`` in the folder (or beside it, where the folder must be empty) says who holds it. The lock
    itself is the operating system's, so it ends with its process, however that ends, and the next one takes it over. A
    lock that another machine left behind is not: whether its process still runs cannot be seen from here.

    Raises `DataError` where another process (or this one) holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path, *, beside: bool = False) -> None:
        self._handle: int | None = None
        self.path = folder.absolute().with_name(f".{folder.name}.lock") if beside else folder / ".topcoat.lock"
        self._is_new = not self.path.parent.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle, owner = _locked(self.path)
        except OSError as error:
            if self.path.parent.is_dir() and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                return  # nobody here can write into it: there may be nothing to do, else the first file says so
            reason = _REASONS.get(error.errno or 0, f"{error.strerror}; choose another folder")
            raise DataError(f"cannot write into {folder}: {reason}") from error
        if self._handle is None:
            elsewhere = f", or delete {self.path} if that process is gone" if owner.get("host") != _HOST else ""
            who = ", ".join(f"{name} {owner[name]}" for name in ("host", "pid", "since") if name in owner)
            raise DataError(
                f"another topcoat writes into {folder} ({who or 'it does not say which'}); wait until it has ended, or "
                f"choose another folder{elsewhere}"
            )

    def release(self) -> None:
        """Let the next process in; a folder that this lock made and nothing was written into goes, too."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with suppress(OSError):  # a folder that was moved or removed meanwhile
            self.path.unlink()
        os.close(handle)
        if self._is_new:
            with suppress(OSError):
                self.path.parent.rmdir()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


_HOST = socket.gethostname()


def _locked(path: Path) -> tuple[int | None, dict[str, Any]]:
    """A handle that holds the lock file, or None where another has it; and the last one that is written there."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            owner = _owner(os.pread(handle, 4096, 0))
            if not _os_lock(handle) or owner.get("host", _HOST) != _HOST:
                os.close(handle)
                return None, owner
            with suppress(FileNotFoundError):  # its last holder removed it in the meantime: take the next one
                if os.path.samestat(os.stat(path), os.fstat(handle)):
                    since = time.strftime("%Y-%m-%d %H:%M:%S")
                    text = json.dumps({"host": _HOST, "pid": os.getpid(), "since": since})
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, text.encode(), 0)
                    return handle, owner
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _owner(text: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        owner = json.loads(text)
        return owner if isinstance(owner, dict) else {}
    return {}


def _os_lock(handle: int) -> bool:
    """Lock an open file for this process; True, too, where the system or the file system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
    return True


def write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` as indented UTF-8 JSON, atomically; NaN and infinity are refused (`ValueError`), not written."""
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def text_template(package: str, name: str, filters: Mapping[str, Callable[..., Any]] | None = None) -> Template:
    """The jinja2 template of a text in ``package``; no value is escaped, and a missing one is an error."""
    from importlib import resources

    from jinja2 import Environment, StrictUndefined

    environment = Environment(keep_trailing_newline=True, undefined=StrictUndefined)
    environment.filters |= filters or {}
    return environment.from_string((resources.files(package) / name).read_text(encoding="utf-8"))


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises `DataError` if it is missing, unreadable or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; check the path") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); it is damaged or not what it should be") from error


def first_difference(there: Any, here: Any, name: str = "") -> str | None:
    """Where two JSON values first differ, as a phrase, or None."""
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        there, here = ({str(index): item for index, item in enumerate(items)} for items in (there, here))
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            difference = first_difference(there.get(key), here.get(key), f"{name}.{key}" if name else str(key))
            if difference is not None:
                return difference
        return None
    if there == here:
        return None
    there, here = (text if len(text) <= 80 else f"{text[:77]}..." for text in map(json.dumps, (there, here)))
    return f"{name} is {there} there and {here} here"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits; raises `DataError` if the file cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error
    return digest.hexdigest()
