"""The proof: what a head bought and at which price, measured and written down."""

from topcoat.proof.record import Distances, ExtrapolatedGap, PerImage, Proof, Saving, Share, Steps
from topcoat.proof.run import prove

__all__ = ["Distances", "ExtrapolatedGap", "PerImage", "Proof", "Saving", "Share", "Steps", "prove"]
