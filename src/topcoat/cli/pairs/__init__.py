"""`topcoat pairs`: datasets of distilled and baseline images of the same subjects, one file per command."""

from topcoat.cli.pairs import build, dedupe, importing, inspect, plan, push, specs
from topcoat.cli.pairs.app import app

__all__ = ["app", "build", "dedupe", "importing", "inspect", "plan", "push", "specs"]
