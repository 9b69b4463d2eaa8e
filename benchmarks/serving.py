"""What the server holds: a bounded load on `topcoat serve`, from this process to another over loopback.

    python benchmarks/serving.py                       # about five minutes on 2 cores
    python benchmarks/serving.py --seconds 10 --overload-seconds 10 --docs /tmp/results.md

Writes ``benchmarks/serving.json`` and the section of docs/results.md between its two marker lines. The embedded pair is
served twice, with batches and with one image at a time, and asked by 16 clients in a closed loop; then four times as
many requests come as it can answer, clients hang up, write slowly, and send what is no picture.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results import ROOT, ended, publish

from topcoat.cost.machine import hardware
from topcoat.errors import ModelError
from topcoat.files import write_json
from topcoat.metrics.evaluation import Table

CLIENTS = 16
MAX_BATCH, MAX_QUEUE = 16, 32
HANG_UPS, SLOW_WRITERS, MALFORMED = 200, 50, 1000
_PATH = "/v1/images/generations"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    pid: int
    ready_seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    status: int
    seconds: float
    pipeline_seconds: float
    """Of the models, as the answer says."""


@dataclass(frozen=True, slots=True)
class State:
    """Of the server's process."""

    rss_bytes: int
    open_files: int
    held_images: int


@contextmanager
def served(max_batch: int) -> Iterator[Server]:
    """A server with batches of at most that; raises `ModelError` if it does not start."""
    words = ["serve", "--port", "0", "--json", "--max-batch", str(max_batch), "--max-queue", str(MAX_QUEUE)]
    command = [sys.executable, "-m", "topcoat", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            while "}" not in text:
                line = process.stdout.readline()
                if not line:
                    raise ModelError("topcoat serve ended before it was ready; run it alone to see why")
                text += line
            told = json.loads(text)
            yield Server(int(told["url"].rpartition(":")[2]), process.pid, told["ready_seconds"])
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()


async def ask(port: int, body: bytes, path: str = _PATH, kind: str = "application/json") -> Asked:
    """One POST on a connection of its own."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_head(path, kind, len(body)) + body)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    status, seconds = int(head.split(b" ")[1]), time.perf_counter() - began
    pipeline = 0.0
    if status == 200:
        own = json.loads(content)["topcoat"]["seconds"]
        pipeline = own["generator"] + own["head"]
    return Asked(status, seconds, pipeline)


def _head(path: str, kind: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Type: {kind}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def _request(seed: int) -> bytes:
    return json.dumps({"prompt": "studio portrait of an old man, beard", "seed": seed}).encode()


async def load(port: int, clients: int, seconds: float) -> list[Asked]:
    """What ``clients`` are answered, each asking again at once, for so long."""
    end = time.perf_counter() + seconds
    results: list[Asked] = []

    async def client(number: int) -> None:
        seed = number * 1_000_000
        while time.perf_counter() < end:
            results.append(await ask(port, _request(seed)))
            seed += 1

    await asyncio.gather(*map(client, range(clients)))
    return results


def state(server: Server) -> State:
    """Memory and open files by the system, images by ``/metrics``."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as response:
        lines = response.read().decode().splitlines()
    held = next(float(line.split()[1]) for line in lines if line.startswith("topcoat_held_images "))
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    files = len(os.listdir(f"/proc/{server.pid}/fd"))
    return State(pages * os.sysconf("SC_PAGE_SIZE"), files, round(held))


def settled(server: Server) -> State:
    """The state once nothing is held, or after 30 s."""
    end = time.monotonic() + 30
    while (now := state(server)).held_images and time.monotonic() < end:
        time.sleep(0.1)
    return now


def percentile(values: list[float], share: float) -> float:
    """Of the sorted values, the one at that share."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def overhead(port: int, count: int) -> dict[str, float]:
    """Milliseconds of a request besides its pipeline, one at a time."""
    results = [asyncio.run(ask(port, _request(seed))) for seed in range(count + 3)][3:]
    besides = [1000 * (each.seconds - each.pipeline_seconds) for each in results]
    whole = statistics.median(1000 * each.seconds for each in results)
    return {"n": count, "median": statistics.median(besides), "p95": percentile(besides, 0.95), "request_median": whole}


def throughput(server: Server, seconds: float) -> dict[str, float]:
    """Images a second that `CLIENTS` get, and what one costs the server; the first half of the time warms up."""
    asyncio.run(load(server.port, CLIENTS, seconds / 2))
    began, used = time.perf_counter(), processor_seconds(server)
    results = asyncio.run(load(server.port, CLIENTS, seconds / 2))
    images = sum(each.status == 200 for each in results)
    used = processor_seconds(server) - used
    return {"images_per_second": images / (time.perf_counter() - began), "processor_seconds_per_image": used / images}


def processor_seconds(server: Server) -> float:
    """What the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def overload(server: Server, seconds: float, images_per_second: float) -> dict[str, Any]:
    """Four times as many requests as are made, at even distances, whatever becomes of them."""
    before = settled(server)

    async def arrivals() -> list[Asked]:
        tasks, began = [], time.perf_counter()
        count = round(4 * images_per_second * seconds)
        for number in range(count):
            await asyncio.sleep(max(0, began + number / (4 * images_per_second) - time.perf_counter()))
            tasks.append(asyncio.ensure_future(ask(server.port, _request(number))))
        return list(await asyncio.gather(*tasks))

    results = asyncio.run(arrivals())
    taken = [each.seconds for each in results if each.status == 200]
    after_began = time.perf_counter()
    normal = asyncio.run(ask(server.port, _request(1)))
    return {
        "seconds": seconds,
        "statuses": dict(Counter(each.status for each in results)),
        "accepted_p95_seconds": percentile(taken, 0.95),
        "bound_seconds": (MAX_QUEUE + 2 * MAX_BATCH) / images_per_second,
        "normal_again_seconds": time.perf_counter() - after_began,
        "normal_status": normal.status,
        "before": asdict(before),
        "after": asdict(settled(server)),
    }


async def _hang_up(port: int, number: int) -> None:
    """Ask, and leave in the middle of the body, or before the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = _request(number)
    writer.write(_head(_PATH, "application/json", len(body)) + body[: len(body) // 2 if number % 2 else len(body)])
    await writer.drain()
    await asyncio.sleep(random.Random(number).random())
    writer.transport.abort()


async def _write_slowly(port: int, number: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_head("/v1/images/edits", "multipart/form-data; boundary=x", 100_000) + b"--x\r\n")
    for _ in range(10):
        await asyncio.sleep(0.3)
        writer.write(b"-")
    writer.transport.abort()


def rudeness(server: Server) -> dict[str, Any]:
    """Clients that hang up and clients that write slowly."""

    async def all_of(one: Callable[[int, int], Awaitable[None]], count: int) -> None:
        await asyncio.gather(*(one(server.port, number) for number in range(count)))

    before = settled(server)
    asyncio.run(all_of(_hang_up, HANG_UPS))
    asyncio.run(all_of(_write_slowly, SLOW_WRITERS))
    time.sleep(1)
    return {
        "before": asdict(before),
        "after": asdict(settled(server)),
        "then": asyncio.run(ask(server.port, _request(1))).status,
    }


def malformed(server: Server) -> dict[str, Any]:
    """Uploads that are no pictures: a true signature with noise behind it, or noise alone."""
    chance = random.Random(0)
    starts = (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF", b"RIFF\x24\0\0\0WEBPVP8 ", b"")

    async def all_of_them() -> list[Asked]:
        results = []
        for _ in range(MALFORMED):
            data = chance.choice(starts) + chance.randbytes(chance.randrange(2000))
            body = (
                b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + data + b"\r\n--x--\r\n"
            )
            results.append(await ask(server.port, body, "/v1/images/edits", "multipart/form-data; boundary=x"))
        return results

    results = asyncio.run(all_of_them())
    return {"statuses": dict(Counter(each.status for each in results)), "after": asdict(settled(server))}


def measure(seconds: float, overload_seconds: float, requests: int) -> dict[str, Any]:
    """All of it."""
    with served(1) as server:
        alone = throughput(server, seconds)
    with served(MAX_BATCH) as server:
        ready = server.ready_seconds
        besides = overhead(server.port, requests)
        together = throughput(server, seconds)
        heavy = overload(server, overload_seconds, together["images_per_second"])
        rude, wrong = rudeness(server), malformed(server)
    return {
        "clients": CLIENTS,
        "max_batch": MAX_BATCH,
        "max_queue": MAX_QUEUE,
        "ready_seconds": ready,
        "throughput": {"one at a time": alone, "batches": together},
        "overhead_ms": besides,
        "overload": heavy,
        "rudeness": rude,
        "malformed": wrong,
        "load_average": os.getloadavg()[1],
        "hardware": hardware().as_dict(),
    }


def markdown(record: dict[str, Any]) -> str:
    """The section of docs/results.md."""
    besides, heavy, rude = record["overhead_ms"], record["overload"], record["rudeness"]
    rss = [each["rss_bytes"] / 2**20 for each in (heavy["before"], heavy["after"])]
    clients = record["clients"]
    rows = [("ready", f"{record['ready_seconds']:.1f} s")]
    for name, each in record["throughput"].items():
        rate, used = each["images_per_second"], each["processor_seconds_per_image"]
        rows.append((f"{clients} clients, {name}", f"{rate:.2f} images/s, {used:.3f} s of a processor each"))
    beyond = f"median {besides['median']:.1f} ms, p95 {besides['p95']:.1f} ms, n {besides['n']}"
    late = f"{heavy['accepted_p95_seconds']:.1f} s (queue and two batches: {heavy['bound_seconds']:.1f} s)"
    files = [rude[when]["open_files"] for when in ("before", "after")]
    rows += [
        ("request minus pipeline, one client", beyond),
        (f"four times as many for {heavy['seconds']:.0f} s", _counted(heavy["statuses"])),
        ("accepted of these, p95", late),
        ("memory before and after", f"{rss[0]:.0f} and {rss[1]:.0f} MiB"),
        ("a request after it", f"{heavy['normal_again_seconds']:.1f} s"),
        (
            f"{HANG_UPS} hang-ups, {SLOW_WRITERS} slow writers",
            f"open files {files[0]} before, {files[1]} after; images held {rude['after']['held_images']}",
        ),
        (f"{MALFORMED} malformed uploads", _counted(record["malformed"]["statuses"])),
    ]
    machine = record["hardware"]
    return (
        f"## The server\n`topcoat serve` on the embedded pair, {machine['cores']} cores of {machine['cpu']}, asked by "
        f"another process on the same cores, with batches of up to {record['max_batch']}; load average "
        f"{record['load_average']:.0f} (by benchmarks/serving.py):\n\n{Table(('what', 'measured'), rows).markdown()}"
    )


def _counted(statuses: dict[int, int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement of throughput")
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=100, help="of the measurement of overhead")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "serving.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results.md")
    chosen = parser.parse_args(arguments)

    def run() -> None:
        record = measure(chosen.seconds, chosen.overload_seconds, chosen.requests)
        write_json(chosen.json, record)
        publish(chosen.docs, "serving", "serving.py", markdown(record))

    return ended(run)


if __name__ == "__main__":
    sys.exit(main())
