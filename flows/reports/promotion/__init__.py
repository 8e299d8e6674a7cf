"""The report on which a promotion is decided: evidence, figures, page."""
