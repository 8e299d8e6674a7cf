"""Publish a router, and decide which one serves."""
