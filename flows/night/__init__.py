"""A night under way: what its stages share, its lease, and how it is stopped."""
