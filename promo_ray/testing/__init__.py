"""Contract checks that every registered method passes."""
