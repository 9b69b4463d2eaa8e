"""Serving: the models of one pair and some heads behind an HTTP API, with requests joined into batches."""
