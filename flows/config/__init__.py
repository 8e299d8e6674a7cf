"""The settings, how they are found and loaded, and where each came from."""
