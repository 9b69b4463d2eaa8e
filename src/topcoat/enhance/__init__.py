"""Enhancing files: which pictures are asked for, where each goes, and the work with decoding and encoding beside it."""
