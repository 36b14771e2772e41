"""Floor 1: records to pictures and pages; every page carries its provenance and the notice."""

from cellkin.core.records import NOTICE
from cellkin.report.adopted import tried_lines
from cellkin.report.audits import headlines, save_audit
from cellkin.report.card import model_card
from cellkin.report.contact_sheet import contact_sheet
from cellkin.report.count_page import CountAlbum, save_count
from cellkin.report.counting import count_sentence
from cellkin.report.curves import pretraining_curve, training_curve
from cellkin.report.engine import engine_lines
from cellkin.report.fits_page import save_fits
from cellkin.report.halving_page import HalvingReport, save_halving
from cellkin.report.pages import DecisionRow, save, save_all, save_table
from cellkin.report.places import place_limits, place_rows
from cellkin.report.study_page import save_study
from cellkin.report.verification import save_verification

__all__ = [
    "NOTICE",
    "CountAlbum",
    "DecisionRow",
    "HalvingReport",
    "contact_sheet",
    "count_sentence",
    "engine_lines",
    "headlines",
    "model_card",
    "place_limits",
    "place_rows",
    "pretraining_curve",
    "save",
    "save_all",
    "save_audit",
    "save_count",
    "save_fits",
    "save_halving",
    "save_study",
    "save_table",
    "save_verification",
    "training_curve",
    "tried_lines",
]
