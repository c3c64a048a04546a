"""Mechanics of offers, one file each, found by the registry."""
