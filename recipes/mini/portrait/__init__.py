"""Fully synthetic portraits: a parametric head, dressed and lit, rendered with Blender's Cycles."""
