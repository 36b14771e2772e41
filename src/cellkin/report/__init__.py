"""Floor 1: records to pictures and pages; every page carries its provenance and the notice."""

from cellkin.report.audits import headlines, save_audit
from cellkin.report.curves import training_curve
from cellkin.report.pages import save, save_all, save_table

__all__ = ["headlines", "save", "save_all", "save_audit", "save_table", "training_curve"]
