"""Which library runs a head, and the head itself from its name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from topcoat import hub
from topcoat.embedded import DEFAULT_HEAD, EMBEDDED_HEADS, MINI
from topcoat.errors import DataError, UsageError
from topcoat.files import sha256_of
from topcoat.runtime import RuntimeName, TorchPrecision
from topcoat.runtime.runner import Runtime, Session

ONNX_NAME = "head.onnx"
"""The file of an exported head in its folder."""
WEIGHTS_NAME = "model.safetensors"
_HUB_FILES = ("config.json", WEIGHTS_NAME, "gates.json", "README.md", ONNX_NAME)
_NVIDIA = Path("/dev/nvidiactl")


def open_runtime(
    head: str | Path = DEFAULT_HEAD,
    runtime: RuntimeName = "auto",
    *,
    tile_px: int | None = None,
    threads: int = 0,
    precision: TorchPrecision = "float32",
    compiled: bool = False,
    revision: str | None = None,
) -> Runtime:
    """The head of that name, folder, hub id or ONNX file, ready to enhance images of any size.

    ``auto`` runs an ONNX file where there is one, the head's own or ``head.onnx`` in its folder, and else torch; with
    an NVIDIA GPU that torch alone can use, torch. ``tile_px`` is as in `Runtime`, ``threads`` 0 means one a core.
    ``precision`` and ``compiled`` (`topcoat.Head.compile`) are for torch alone, ``revision`` (branch, tag or commit) is
    for a hub id.

    Raises `UsageError` for a runtime that cannot run this head, `DataError` for a damaged one, `ModelError` for one
    that is not there or that the hub does not give, `ModuleNotFoundError` where the runtime is not installed.
    """
    name, head = str(head), _local(head, revision)
    path = onnx_file(head)
    if runtime == "auto":
        runtime = "torch" if path is None or (path.name == ONNX_NAME and _torch_alone_has_the_gpu()) else "onnx"
    if runtime == "torch" and Path(head).suffix == ".onnx":
        raise UsageError(f"{head} is an ONNX file, which torch does not run; use --runtime onnx, or the head's folder")
    if runtime != "torch" and path is None:
        raise UsageError(
            f"the head {name} has no ONNX file; make one with topcoat export {name} -o {ONNX_NAME}, then give that file"
        )
    if runtime == "torch":
        return Runtime(_torch_session(head, name, threads, precision, compiled), tile_px)
    if compiled or precision != "float32":
        raise UsageError(
            f"compiling and 16 bits are for torch, and {name} runs on {runtime}; add --runtime torch, or export the "
            "head with --fp16"
        )
    assert path is not None
    return Runtime(_session(path, runtime, threads), tile_px)


def onnx_file(head: str | Path) -> Path | None:
    """The ONNX file of a head; None for one that has none, such as a hub id.

    Raises `DataError` for one that was exported from other weights than lie beside it.
    """
    if str(head) not in EMBEDDED_HEADS and Path(head).suffix == ".onnx":
        return Path(head)
    path = head_folder(head) / ONNX_NAME
    return path if path.is_file() else None


def head_folder(head: str | Path) -> Path:
    """The folder that a head's name stands for; that of a hub id does not exist."""
    return MINI / EMBEDDED_HEADS[str(head)] if str(head) in EMBEDDED_HEADS else Path(head)


def _local(head: str | Path, revision: str | None) -> str | Path:
    """``head`` itself, or the folder of this machine's cache into which one is fetched from the hub."""
    if str(head) in EMBEDDED_HEADS or Path(head).suffix == ".onnx" or Path(head).exists():
        return head
    return hub.download(str(head), _HUB_FILES, what="the head", revision=revision)


def _torch_session(head: str | Path, name: str, threads: int, precision: TorchPrecision, compiled: bool) -> Session:
    import torch

    from topcoat.heads.head import Head
    from topcoat.runtime.torch_session import TorchSession

    opened = Head.load(head).to(getattr(torch, precision))
    return TorchSession(opened.compile() if compiled else opened, name, threads)


def _session(path: Path, runtime: RuntimeName, threads: int) -> Session:
    session: Session
    if runtime == "onnx":
        from topcoat.runtime.onnx_session import OnnxSession

        session = OnnxSession(path, threads)
    else:
        from topcoat.runtime.openvino_session import OpenVinoSession

        session = OpenVinoSession(path, threads)
    _check_weights(path, session)
    return session


def check_graph(folder: Path) -> None:
    """Raise `DataError` for a ``head.onnx`` in ``folder`` that is damaged or of other weights than those beside it."""
    from topcoat.runtime.onnx_session import OnnxSession

    path = folder / ONNX_NAME
    if path.is_file():
        _check_weights(path, OnnxSession(path))


def _check_weights(path: Path, session: Session) -> None:
    weights = path.with_name(WEIGHTS_NAME)
    if path.name == ONNX_NAME and weights.is_file() and sha256_of(weights) != session.record.weights_sha256:
        raise DataError(
            f"{path} was exported from other weights than {WEIGHTS_NAME} beside it; export the head again with topcoat "
            f"export {path.parent} -o {path}, or remove the file"
        )


def _torch_alone_has_the_gpu() -> bool:
    if not _NVIDIA.exists() or find_spec("torch") is None:
        return False
    from topcoat.runtime.onnx_session import available_providers

    return "CUDAExecutionProvider" not in available_providers()
