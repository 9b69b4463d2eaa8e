"""`topcoat doctor`: what is installed, which device, what is missing and the line that installs it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import typer

from topcoat.cli.console import Output, command
from topcoat.embedded import MINI
from topcoat.errors import DataError

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "pyarrow", "pillow")
EXTRAS = {
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


@command("doctor", examples=("topcoat doctor", "topcoat doctor --json"))
def doctor(out: Output) -> None:
    """Check this installation; exit code 1 if something that topcoat needs is wrong."""
    needed = [
        _python(),
        *(_package(name) for name in PACKAGES),
        _no_broken_torchvision(),
        _device(),
        _assets(),
        _disk(),
    ]
    optional = [_extra(name, packages) for name, packages in EXTRAS.items()]
    for check in needed:
        out.line(f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name:<16} {check.state}")
        if check.advice:
            out.line(f"{'':<26}-> {check.advice}")
    for check in optional:
        out.line(f"{'ok     ' if check.ok else 'missing'}  {check.name:<16} {check.state}")
        if check.advice:
            out.line(f"{'':<26}-> {check.advice}")
    well = all(check.ok for check in needed)
    out.line("\nEverything that topcoat needs is here." if well else "\nSome things need attention: see PROBLEM above.")
    record: dict[str, Any] = {"ok": well, "checks": [asdict(check) for check in needed]}
    out.result({**record, "extras": [asdict(check) for check in optional]})
    if not well:
        raise typer.Exit(1)


def _python() -> Check:
    from topcoat import __version__

    system = f"{platform.system()} {platform.machine()}"
    return Check("topcoat", True, f"{__version__}, Python {platform.python_version()}, {system}")


def _package(name: str) -> Check:
    version = _version(name)
    if version is None:
        return Check(name, False, "not installed", f"pip install {name}")
    return Check(name, True, version)


def _no_broken_torchvision() -> Check:
    """A torchvision of another build breaks transformers and diffusers, and says nothing of itself."""
    version = _version("torchvision")
    if version is None:
        return Check("torchvision", True, "not installed (not needed)")
    try:
        import_module("torchvision")
    except Exception as error:  # a broken build fails in several ways
        first = (str(error).splitlines() or ["no message"])[0]
        return Check("torchvision", False, f"{version} is broken: {first}", "pip uninstall torchvision")
    return Check("torchvision", True, f"{version} (not needed)")


def _device() -> Check:
    try:
        from topcoat.cost.machine import hardware

        return Check("device", True, str(hardware()))
    except ImportError as error:
        return Check("device", False, f"torch cannot be imported: {error}", "pip install 'torch>=2.13,<2.14'")


def _assets() -> Check:
    """The embedded files against the digests in their card."""
    from topcoat.files import read_json, sha256_of

    advice = "install the topcoat package again"
    try:
        digests = read_json(MINI / CARD)["digests"]
        wrong = sorted(name for name, digest in digests.items() if sha256_of(MINI / name) != digest)
    except (DataError, KeyError, TypeError, AttributeError) as error:
        return Check("mini pair", False, f"its card cannot be read: {error}", advice)
    if wrong:
        return Check("mini pair", False, f"{len(wrong)} files are not what the card says, first {wrong[0]}", advice)
    size = sum((MINI / name).stat().st_size for name in digests)
    return Check("mini pair", True, f"{len(digests)} files, {size / 1e6:.1f} MB, digests as in the card")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= _LITTLE_DISK_BYTES
    return Check(
        "disk", ok, f"{free / 2**30:.1f} GiB free here", "" if ok else "free some space: pairs need 2 GiB or more"
    )


def _extra(name: str, packages: tuple[str, ...]) -> Check:
    missing = [package for package in packages if _version(package) is None]
    if not missing:
        return Check(f"extra {name}", True, "installed")
    return Check(f"extra {name}", False, f"without {', '.join(missing)}", f"pip install 'topcoat[{name}]'")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
