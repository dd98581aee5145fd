"""Benchmarks: ratios in one run. Absolute times mean nothing on shared machines."""
