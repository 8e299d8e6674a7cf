"""Which characters of untrusted text are active; imported wherever text is shown, so it imports nothing heavy."""

from __future__ import annotations

import unicodedata

# Control, format, surrogate, private and unassigned characters, and separators that some pages take for line breaks.
_ACTIVE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_active(character: str) -> bool:
    """Whether a character does more than be seen: a control, format, private or invisible character."""
    return unicodedata.category(character) in _ACTIVE
