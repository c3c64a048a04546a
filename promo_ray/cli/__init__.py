"""The command line `promo-ray`."""
