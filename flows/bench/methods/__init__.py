"""The routing methods of the benchmark, and what only they use."""
