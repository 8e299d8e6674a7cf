"""Stored answers become feature vectors and cluster maps."""
