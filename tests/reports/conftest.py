from __future__ import annotations

from tests.metrics.conftest import images, net, other_images

__all__ = ["images", "net", "other_images"]
