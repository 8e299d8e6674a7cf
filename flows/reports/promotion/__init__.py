"""The report that a promotion is decided by: evidence, figures, page."""
