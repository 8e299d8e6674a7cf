"""Metrics: the registry's figures in Prometheus' format, read when they are asked for.

Nights run in short-lived processes on several machines, and what they did is in the registry; so nothing is counted in
a process and nothing is pushed.
"""
