"""Decisions at run time: bundle, decider, ledger; NumPy only."""
