"""The memory: everything that must survive the night."""
