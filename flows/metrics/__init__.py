"""Metrics: the registry's figures in Prometheus' format, read at each scrape.

Nights run in short-lived processes on several machines and record what they did in the registry, so nothing is counted
in a process and nothing is pushed.
"""
