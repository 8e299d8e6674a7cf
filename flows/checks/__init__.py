"""Checks before and between nights: preflight, settings, prompts, and everything with ``uniroute doctor``."""
