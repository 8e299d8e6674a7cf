"""Posterior feature vectors: what a few answers of a new LLM say, given how earlier LLMs behaved."""
