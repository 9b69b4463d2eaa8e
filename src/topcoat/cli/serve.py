"""`topcoat serve`: the models behind an HTTP API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import NO_HEAD, RuntimeOption
from topcoat.errors import UsageError

_MEBIBYTE = 2**20


@command(
    "serve",
    computes=True,
    examples=(
        "topcoat serve",
        "topcoat serve --pair flux1 --head runs/unet --max-batch 4 --timeout 300",
        "topcoat serve --baseline --report out/demo",
        "topcoat serve --host 0.0.0.0 --api-key-file keys.txt",
    ),
)
def serve(
    out: Output,
    pair: Annotated[
        str | None,
        typer.Option(
            "--pair", help="Model pair, as for generate; none serves edits alone. mini where torch is installed."
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", metavar="DIR", help="Head folder, hub id or ONNX file; repeat it for several."),
    ] = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="Serve the pair's baseline too, as a model.")] = False,
    size: Annotated[
        list[str] | None, typer.Option("--size", metavar="WxH", help="A further size of images, such as 768x1024.")
    ] = None,
    runtime: RuntimeOption = "auto",
    host: Annotated[
        str, typer.Option(help="Address to listen on; this machine alone can reach 127.0.0.1.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", help="Keys that clients have to send, one a line.")
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Listen on another address than this machine's own without a key.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="Name by which the server may be called; any by default."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", metavar="URL", help="Site whose pages may call the server; none by default."),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=256, help="Images that are made at a time.")] = 16,
    max_queue: Annotated[int, typer.Option(min=1, help="Images that wait or are made; more are refused (429).")] = 32,
    batch_wait_ms: Annotated[
        float, typer.Option("--batch-wait-ms", min=0, max=1000, help="How long a request waits for others to join it.")
    ] = 3.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which a request is ended.")] = 120.0,
    max_upload_mib: Annotated[
        float, typer.Option("--max-upload-mib", min=0.01, help="Largest request, in MiB.")
    ] = 32.0,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", min=0.01, max=100, help="Largest picture that is taken.")
    ] = 32.0,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Where the models run: in this process, or on Ray Serve.")
    ] = "local",
    replicas: Annotated[int, typer.Option(min=1, help="Copies of the models, with --engine ray.")] = 1,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="A running cluster (auto finds one); this machine by default.")
    ] = None,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write prompts into the log.")] = False,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="A page at / for people, where topcoat[page] is installed.")
    ] = True,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of a demo or study, whose subjects the page shows.")
    ] = None,
) -> None:
    """Serve a pair and its heads as an API that OpenAI's clients speak.

    POST /v1/images/generations makes portraits, POST /v1/images/edits enhances pictures; /v1/models, /health, /ready
    and /metrics say the rest. A page at / is for people. Requests are made in batches; the same seed gives the same
    bytes in any.
    """
    import asyncio
    import logging

    import_module("prometheus_client")  # first: of what the extra has it alone names the extra
    from topcoat.config import parse_config
    from topcoat.serving.app import create_app
    from topcoat.serving.engine import Engine
    from topcoat.serving.guard import read_keys
    from topcoat.serving.server import serve_until_stopped
    from topcoat.serving.settings import ServeConfig
    from topcoat.serving.sockets import LOOPBACK, is_loopback, open_socket, url_of

    if report is not None and not page:
        raise UsageError("--report is for the page; leave --no-page out, or leave the report out")
    keys = read_keys(api_key_file) if api_key_file else ()
    if api_key_file and api_key_file.stat().st_mode & 0o077:
        out.warn(f"{api_key_file} can be read by other users of this machine; chmod 600 takes that away")
    if not is_loopback(host) and not keys and not without_key:
        raise UsageError(
            f"{host} can be reached from other machines, and no key is asked for; give --api-key-file, or say "
            "--without-key to serve everyone who can reach it"
        )
    settings = {
        "pair": _pair_name(out, pair),
        "heads": None if head is None else tuple(name for name in head if name != NO_HEAD),
        "baseline": baseline,
        "sizes_px": tuple(_size(text) for text in size or ()),
        "runtime": runtime,
        "max_batch": max_batch,
        "max_queue": max_queue,
        "batch_wait_seconds": batch_wait_ms / 1000,
        "timeout_seconds": timeout,
        "max_upload_bytes": round(max_upload_mib * _MEBIBYTE),
        "max_megapixels": max_megapixels,
    }
    config = parse_config(settings, ServeConfig, source="topcoat serve")
    config.chosen_heads()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if engine == "local" and (replicas != 1 or ray_address is not None):
        raise UsageError("--replicas and --ray-address are for --engine ray; add it, or leave them out")
    backend = None
    if engine == "ray":
        from topcoat.serving.ray_backend import RayBackend

        backend = RayBackend(config, replicas, ray_address)
    served = Engine(config, backend)
    hosts = _hosts(host, allowed_host, LOOPBACK if is_loopback(host) else None)
    app = create_app(served, keys=keys, hosts=hosts, cors_origins=cors_origin or (), log_prompts=log_prompts)
    bound = open_socket(host, port)
    url = url_of(host, bound)
    who = "this machine alone can reach it" if is_loopback(host) else "other machines can reach it"
    key = "a key is asked for" if keys else "no key is asked for"
    out.line(f"{url}: {who}, {key}; loading the models")
    began = time.monotonic()
    on_stop = None
    if page and find_spec("gradio") is not None:
        from topcoat.serving.page.mount import mount_page

        on_stop = mount_page(app, served, report=report).end
    elif page:
        out.line("there is no page at /, because gradio is not installed: pip install 'topcoat[page]'")

    def on_ready() -> None:
        seconds = time.monotonic() - began
        out.line(f"{url}: ready after {seconds:.1f} s")
        out.result({"url": url, "ready_seconds": round(seconds, 2)})

    stopping = on_stop or (lambda: None)
    asyncio.run(serve_until_stopped(app, served, bound, grace_seconds=timeout, on_ready=on_ready, on_stop=stopping))


def _pair_name(out: Output, pair: str | None) -> str | None:
    """The pair to serve: by default the embedded one, where what it needs is installed."""
    if pair is not None:
        return None if pair == "none" else pair
    if find_spec("torch") is not None:
        return "mini"
    out.warn("torch is not installed, so edits alone are served; pip install 'topcoat[models]' adds generations")
    return None


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not width.isdecimal() or not height.isdecimal():
        raise UsageError(f"--size {text} is no size; write width and height in px, such as 768x1024")
    return int(width), int(height)


def _hosts(host: str, allowed: Sequence[str] | None, own: Sequence[str] | None) -> list[str] | None:
    """The names by which the server may be called; on loopback its own, so that no other site's name stands for it."""
    if allowed:
        return [*allowed, *(own or ())]
    return None if own is None else [*own, host]
