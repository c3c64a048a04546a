"""The day-by-day market: households that stock up, remember prices and switch brands."""
