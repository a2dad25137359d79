"""Measures the block engine beside other programs that do the same work; docs/benchmarks.md says how and why so."""
