"""Floor 1: records to pictures and pages; every page carries its provenance and the notice."""

from cellkin.core.records import NOTICE
from cellkin.report.card import model_card
from cellkin.report.curves import pretraining_curve, training_curve
from cellkin.report.pages import save, save_all, save_table

__all__ = [
    "NOTICE",
    "model_card",
    "pretraining_curve",
    "save",
    "save_all",
    "save_table",
    "training_curve",
]
