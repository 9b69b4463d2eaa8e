"""What ``/metrics`` says, in Prometheus' format."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topcoat.serving.admission import Load
from topcoat.serving.work import Answer

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
ROUTES = ("/v1/images/generations", "/v1/images/edits", "/v1/models", "/health", "/ready", "/metrics")


class Measures:
    """Counters of one server, in a registry of its own."""

    def __init__(self, load: Load) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels, registry = ("route",), self.registry
        self.requests = Counter("topcoat_requests", "Answered requests.", (*labels, "status"), registry=registry)
        self.seconds = Histogram(
            "topcoat_request_seconds", "From the first byte to the last.", labels, buckets=_SECONDS, registry=registry
        )
        self.images = Counter("topcoat_images", "Pictures that were given.", labels, registry=registry)
        self.batches = Histogram(
            "topcoat_batch_images", "Images made together.", labels, buckets=_BATCHES, registry=registry
        )
        self.parts = Histogram(
            "topcoat_part_seconds", "Parts of a request.", (*labels, "part"), buckets=_SECONDS, registry=registry
        )
        held = Gauge("topcoat_held_images", "Let in and not answered.", registry=registry)
        held.set_function(lambda: load.held)
        waiting = Gauge("topcoat_waiting_images", "Waiting for a model.", registry=registry)
        waiting.set_function(lambda: load.waiting)

    def answered(self, route: str, answer: Answer) -> None:
        """Note what an answer holds."""
        self.images.labels(route).inc(len(answer.images))
        self.batches.labels(route).observe(answer.batch_images)
        for part in ("queued", "generator", "head"):
            self.parts.labels(route, part).observe(getattr(answer.seconds, part))

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts requests by route and status; paths that are no routes are ``other``."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app, self._measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 499  # the client left before there was an answer

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self._measures.requests.labels(route, str(status)).inc()
            self._measures.seconds.labels(route).observe(time.perf_counter() - began)
