"""Kernels that need Triton, apart from modules that can always be imported."""
