"""Metrics of images: images and features in, scores out. Nothing here knows a pipeline, pairs or a page."""
