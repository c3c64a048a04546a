"""Benchmarks against named baselines."""
