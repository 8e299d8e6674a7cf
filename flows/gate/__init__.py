"""The promotion gate: measure a candidate, judge it against the champion."""
