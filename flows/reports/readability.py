"""How many of an LLM's answers could not be read, in words: unknown is said, and is not 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.text import counted, sanitize, sanitize_lines, shell_argument
from registry.outcomes import Readability, UnreadableAnswer

_MUCH_UNREADABLE = 0.05
UNKNOWN = "unknown"
_NOTHING = Readability()


def readability_cell(found: Readability | None) -> str:
    """Return the share of unreadable answers as a cell of a table; empty for an LLM without scored answers."""
    read = found or _NOTHING
    if not read.n_scored:
        return ""
    return share_cell(read.share) + (f", {read.n_judged:,} judged" if read.n_judged else "")


def share_cell(share: float | None) -> str:
    """Return a share of unreadable answers as a cell of a table."""
    return UNKNOWN if share is None else f"{share:.1%}"


def readability_sentence(read: Readability) -> str:
    """Return how many answers could not be read, of how many, and what became of them."""
    if read.share is None:
        return UNKNOWN
    judged = f"; a judge decided {read.n_judged:,} of them" if read.n_judged else ""
    n_unknown = read.n_scored - read.n_known
    unknown = f"; of {counted(n_unknown, 'earlier answer')} it is unknown" if n_unknown else ""
    return f"{read.n_unreadable:,} of {counted(read.n_known, 'answer')} ({read.share:.1%}){judged}{unknown}"


def readability_attention(found: Mapping[str, Readability], *, is_judged: bool) -> list[str]:
    """Return what a person should look at, one line for each LLM of which too many answers are in doubt.

    Parameters
    ----------
    found
        By LLM key, how many answers could be read.
    is_judged
        Whether a judge decides unreadable answers.
    """
    remedy = "" if is_judged else "; [judge] unreadable = true has a judge decide them"
    return [
        f"{key}: no answer could be read in {readability_sentence(read)}, so that they score 0: "
        f"uniroute llm show {shell_argument(key)} --unreadable{remedy}"
        for key, read in found.items()
        if read.doubtful_share > _MUCH_UNREADABLE
    ]


def unreadable_data(answer: UnreadableAnswer) -> dict[str, Any]:
    """Return an unreadable answer as plain data, its texts as they are stored."""
    return {
        "prompt_id": answer.prompt_id,
        "prompt": answer.prompt,
        "reference": answer.reference,
        "grader": answer.grader,
        "completion": answer.completion,
        "is_pruned": answer.completion is None,
        "is_truncated": answer.is_truncated,
        "score": answer.score,
        "judged_by": answer.judged_by,
        "asked_at": answer.asked_at,
    }


def unreadable_text(answers: Sequence[UnreadableAnswer], read: Readability) -> str:
    """Return unreadable answers with their prompts and references for a terminal; all three come from elsewhere.

    Parameters
    ----------
    answers
        Some of the unreadable answers.
    read
        How many there are in all.
    """
    if not answers:
        return "No unreadable answer is known."
    head = f"{counted(len(answers), 'unreadable answer')} of {read.n_unreadable:,}"
    return "\n\n".join([head, *map(_answer_text, answers)])


def _answer_text(answer: UnreadableAnswer) -> str:
    judged = f"decided by {answer.judged_by}" if answer.judged_by else "in doubt"
    completion = "(the text was pruned)" if answer.completion is None else answer.completion or "(empty)"
    beginning = ", the beginning" if answer.is_truncated else ""
    return "\n".join(
        [
            f"prompt {sanitize(answer.prompt_id)}: score {answer.score:g}, {sanitize(judged, width=200)}",
            f"  {'grader':10} {sanitize(answer.grader, width=200)}",
            f"  {'reference':10} {sanitize(answer.reference, width=400)}",
            "  asked",
            _indented(answer.prompt),
            f"  answered{beginning}",
            _indented(completion),
        ]
    )


def _indented(text: str) -> str:
    # A quote bar, so that no text can look like a line of ours.
    return "\n".join(f"    | {line}" for line in sanitize_lines(text, width=1200).split("\n"))
