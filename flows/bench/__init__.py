"""Benchmarks: the paper's protocol over outcome folders, and the speed of the night."""
