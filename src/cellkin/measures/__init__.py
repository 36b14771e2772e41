"""How good is it? Scores, rankings, reliability, triage, intervals and paired tests.

Pure functions over calls, truths and the units that own them.
"""
