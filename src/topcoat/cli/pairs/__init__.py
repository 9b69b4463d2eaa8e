"""`topcoat pairs`: datasets of distilled and baseline images of the same subjects, one file per command."""

from topcoat.cli.pairs import build, inspect
from topcoat.cli.pairs.app import app

__all__ = ["app", "build", "inspect"]
