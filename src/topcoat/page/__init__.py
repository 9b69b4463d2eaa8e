"""What every page shares: one stylesheet, the before/after slider, cards, tables and embedded pictures."""

from topcoat.page.document import card, document, findings, prose, safe, settings, table
from topcoat.page.pictures import data_uri
from topcoat.page.slider import Subject, gallery, stage

__all__ = [
    "Subject",
    "card",
    "data_uri",
    "document",
    "findings",
    "gallery",
    "prose",
    "safe",
    "settings",
    "stage",
    "table",
]
