"""`python -m topcoat` is `topcoat`."""

from __future__ import annotations

from topcoat.cli.app import main

if __name__ == "__main__":
    main()
