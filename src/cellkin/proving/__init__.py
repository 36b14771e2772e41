"""Floor 7: what the evidence of an atlas is worth, measured on cells that it has never seen."""
