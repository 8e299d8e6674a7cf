"""Multiple choice: find the letter that an answer settles on.

Every pattern starts at a fixed word and has only bounded repeats, so that a hostile answer costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from flows.graders.base import UNREADABLE, Grade, RuleGrader, both_ends
from flows.graders.cues import BOX, announcements, choices
from flows.graders.options import LETTERS, UNKNOWN, Options, options_of
from flows.graders.order import asks_to_begin, valid_declaration, without_run_on
from flows.text import normalized

# Letters of options in other scripts, in their order (abjad in Arabic).
_ALPHABETS: Final = {
    "أبجدهوزحطي": LETTERS,
    "ا": "A",
    "অবডঢ": "ABCD",
    "কখগঘঙ": "ABCDE",
    "कखगघङ": "ABCDE",
    "กขคงจ": "ABCDE",
}
_LATIN_OF: Final = {
    foreign: latin for alphabet, latins in _ALPHABETS.items() for foreign, latin in zip(alphabet, latins, strict=True)
}
# Letters of scripts that write spaces between words: next to one of these, a letter is part of a word.
_JOINED: Final = r"0-9A-Za-z\u00c0-\u024f\u0370-\u052f"
_LETTER: Final = rf"(?<![{_JOINED}])(?<![{_JOINED}]_)([A-Za-z])(?![{_JOINED}]|['’_-][0-9A-Za-z{{])"
_FOREIGN: Final = rf"(?<!\w)([{''.join(_LATIN_OF)}])(?!\w)"
# Marks that people and LLMs put around a letter: bold, mathematics, quotes, brackets.
_MARKS: Final = r"[\s*_`\"'“”‘’「『【\[(<$:：]{0,10}"
_WRAPS: Final = (
    rf"{_MARKS}(?:\\(?:boxed|fbox|text|textbf|textrm|mathbf|mathrm|mathsf|bf|rm|\(|\[)[\s{{*$(]{{0,4}}){{0,3}}"
)
_FILLERS: Final = (
    r"(?:[\s*_,]{0,4}(?:therefore|thus|hence|clearly|likely|probably|most|indeed|definitely|simply|actually|only|either"
    r"|both|the|correct|right|best|final|option|options|choice|letter|answer|statement|opción|opção|opzione|la|die|选项"
    r"|選項|選択肢)(?![A-Za-z])[\s*_]{0,3}[:：]?){0,6}"
)
_SAID = re.compile(rf"{_FILLERS}{_WRAPS}(?:{_LETTER}|{_FOREIGN})", re.IGNORECASE)
_CALLED_RIGHT = re.compile(
    rf"{_LETTER}[)*\]]{{0,4}} (?:is|would be|seems) (?:the |most )?(?:correct|right|best|answer|most likely)\b"
)
_BOLD = re.compile(rf"\*\*[(\[]?{_LETTER}")
_LEADING = re.compile(rf"{_WRAPS}{_LETTER}[\s*_`\"'”’$)\]}}]{{0,6}}(?:[).:,;—–-]|\n|$|(?= ))")
# Not a letter of an abbreviation such as U.S.A.
_LONE = re.compile(rf"(?<![A-Za-z]\.){_LETTER}(?!\.[A-Za-z])")
_NEGATED = re.compile(
    r"(?:\b(?:not|cannot|never|nor|exclud\w{1,3}|eliminat\w{1,3}|rul\w{1,3} out)|n['’]t)"
    r"(?: (?:be|choose|pick|select|go with|option|choice|answer|the|either))*[\s*_(\"'“]{1,4}$",
    re.IGNORECASE,
)
_NEGATION_CHARACTERS: Final = 40
_SHORT_CHARACTERS: Final = 100
_CALLED_WRONG = re.compile(
    r"[)*\]]{0,4}(?:(?:, and|, or|,| and| or) ?[(*]{0,2}[A-Z][)*]{0,2}){0,8},? "
    r"(?:(?:is|are|was|were|would be|seems|can be)(?: (?:clearly|also|both|definitely|therefore))?"
    r" (?:wrong|incorrect|not|false|invalid|inconsistent|ruled out|eliminated|excluded|too)\b"
    r"|(?:is|are|was|were|does|do|did|would|ca)n['’]t\b|cannot\b|(?:does|do|did|would|can) not\b)"
)
_CORRECTED = re.compile(
    r"[\s*_)\]}.,;…—–-]{0,8}"
    r"(?:(?:oh|no(?=[,.:!…—–]| (?:wait|actually|sorry))|wait|sorry|actually|hmm|rather|i mean|make that|correction)\b"
    r"[,.:!…\s—–-]{1,5}){1,4}"
    rf"(?:(?:it['’]s|it is|it should be|that['’]s|the (?:correct )?answer is|option) ){{0,2}}{_WRAPS}{_LETTER}",
    re.IGNORECASE,
)
_JOINED_IN_LATEX = re.compile(r"\\(?:text|textbf|mathrm)\s?\{\s{0,2}(and|or|,|&)\s{0,2}\}")
_ROLE = re.compile(r"A ?[:：]\s{0,4}(?=\S)")
_ONLY = re.compile(rf"{_WRAPS}([A-Za-z{''.join(_LATIN_OF)}])ـ?[\s*_`\"'“”’」』】$)\]}}>.:]{{0,10}}")
_OTHER_AS_WELL = re.compile(
    r"[\s*_)\]}$]{0,4}(?:,\s{0,3}[(*]{0,3}[A-Z][)*]{0,3}){0,8}"
    rf"(?:[,;.(]?\s{{0,3}}\b(?:or )?(?:maybe|perhaps|possibly)\b,?\s{{0,3}}[(*\[]{{0,3}}{_LETTER}"
    rf"|,?\s{{0,3}}(?:\b(?:or|and|nor|oder|und|ou|et|o|y|e)\b|[/&和或と])\s{{0,3}}(?:option )?[(*\[]{{0,3}}{_LETTER}"
    r"(?![)*\]]{0,3} (?:is|are|was|were|would|do|does|can|cannot|can't)\b)"
    rf"|,\s{{0,3}}[(*\[]{{0,3}}{_LETTER}(?=[)*\]}}$]{{0,3}}\s{{0,3}}(?:[.\n]|$)))"
)
# What may follow a letter in a sentence; after any other word, "A" is an article and "I" a pronoun.
_GOES_ON = re.compile(r"\s(?!(?:because|since|is|as|was|and|or|nor|which|due|with|from|by|based|for)\b)[a-z]")
_ASKED = re.compile(r"[\s*_)\]}$]{0,4}\?")
_ENDS = re.compile(r"[\s*_`\"'”’$)\]}]{0,6}(?:[).,;:!?}\n]|$)")
_REFERENCE = re.compile(r"\s*\(?([A-Za-z])\)?\.?\s*")
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"))


@dataclass(frozen=True)
class _Mention:
    """A letter in an answer."""

    letter: str
    start: int
    end: int


class ChoiceGrader(RuleGrader):
    r"""Compare the letter that an answer settles on with that of the reference.

    What the prompt lists as ``A.``, ``(B)`` or ``C)`` are the letters that count; A to J where it lists none. The
    letter is the first of these that is found in an answer without its reasoning:

    1. the whole answer is one letter, in either case: ``c``, ``(C).``, ``**C**``, ``\boxed{C}``;
    2. the last declared one: "answer is X", "Answer: X", "the correct option is X", ``\boxed{X}``, also in other
       languages and scripts;
    3. the last one that is chosen or called right: "I would pick X", "X is correct";
    4. the last letter in bold, unless several options are listed in bold;
    5. one that starts the answer: ``X) ...``, ``X. ...``, ``X`` on a line of its own;
    6. the last capital letter that stands alone and is not ruled out ("not X", "X is wrong").

    What follows when an LLM asks itself the next question does not count. "A or B" is no choice and wrong; "A... no,
    wait, B" is B. Lower-case letters count where the prompt lists its options so; otherwise only in 1, in 5 as ``x)``
    and ``x.`` of a short answer, and where 2 and 3 end a phrase or a bracket with them. "I" and "A" are words where one
    follows that continues a sentence. An answer without a letter is unreadable.
    """

    name = "choice"
    version = "2"

    def chance(self, question: str) -> float | None:
        """Return the share of one option among those that the prompt lists; None when it lists none."""
        options = options_of(question)
        return None if options is UNKNOWN else 1 / len(options.letters)

    def _graded(self, answer: str, reference: str, question: str) -> Grade:
        wanted = _REFERENCE.fullmatch(reference)
        options = options_of(question)
        if wanted is not None and wanted[1].upper() not in options.letters:
            options = options_of("")
        if wanted is None or wanted[1].upper() not in options.letters:
            raise self._unusable(reference, "a letter from A to J, or one of the options of the prompt")
        letters = chosen_letters(both_ends(answer), options, question)
        return Grade(float(letters == wanted[1].upper())) if letters else UNREADABLE


def chosen_letters(answer: str, options: Options, question: str = "") -> str:
    """Return what an answer settles on, by the rules of `ChoiceGrader`.

    Parameters
    ----------
    answer
        What the LLM said after its reasoning.
    options
        The letters that count.
    question
        The text of the prompt.

    Returns
    -------
    str
        A capital letter; two where the answer names both; empty when there is none.
    """
    text = normalized("NFKC", answer).translate(_INVISIBLE).strip()
    text = _JOINED_IN_LATEX.sub(r" \1 ", text)
    # Prompts with examples end in "A:", and some LLMs say it again.
    only = _ONLY.fullmatch(text) or _ONLY.fullmatch(_ROLE.sub("", text, count=1))
    if only is not None and _capital(only[1]) in options.letters:
        return _capital(only[1])
    reader = _Reader(text, options)
    declared = list(reader.declared())
    starting = reader.starting()
    first = min((found.end for found in (*declared, *([starting] if starting else []))), default=None)
    if first is not None:
        text = without_run_on(text, first, question)
        reader = _Reader(text, options)
        declared = [mention for mention in declared if mention.end <= len(text)]
    leading = reader.leading()
    if leading is not None and asks_to_begin(question):
        return leading.letter + reader.other(leading)
    for mentions in (lambda: declared, reader.chosen, reader.in_bold):
        valid = valid_declaration(list(mentions()), text, question)
        if valid is not None:
            valid = reader.corrected(valid)
            return valid.letter + reader.other(valid)
    last = reader.corrected(leading) if leading is not None else reader.last_lone()
    return "" if last is None else last.letter + reader.other(last)


class _Reader:
    """Finds the letters of one answer."""

    def __init__(self, text: str, options: Options) -> None:
        self._text = text
        self._options = options

    def declared(self) -> Iterator[_Mention]:
        yield from self._after(announcements(self._text))
        yield from self._after(found.span() for found in BOX.finditer(self._text))

    def chosen(self) -> Iterator[_Mention]:
        yield from self._after(span for span in choices(self._text) if not self._is_negated(span[0]))
        yield from self._capitals(_CALLED_RIGHT)

    def in_bold(self) -> Iterator[_Mention]:
        found = list(self._capitals(_BOLD))
        return iter(found if len({mention.letter for mention in found}) == 1 else found[-1:])

    def starting(self) -> _Mention | None:
        found = _LEADING.match(self._text)
        if found is None:
            return None
        # "b) two" chooses as much as "B) two" does; where more is said, "(a)" starts the first part of it.
        is_short = len(self._text) <= _SHORT_CHARACTERS
        is_marked = self._text[found.end(1) : found.end(1) + 1] in (")", ".") and self._text[found.end(1) + 1 :].strip()
        return self._mention(found, is_declared=bool(is_short and is_marked))

    def leading(self) -> _Mention | None:
        """Return the letter that starts the answer, unless it goes through the options one by one."""
        first = self.starting()
        if first is None or self._is_ruled_out(first):
            return None
        listed = re.finditer(r"\n[\s*(]{0,4}([A-Za-z])[).:]", self._text)
        is_list = any(found[1].upper() in self._options.letters - {first.letter} for found in listed)
        return None if is_list else first

    def last_lone(self) -> _Mention | None:
        """Return the last capital letter; the one before it where that names both."""
        all_mentions = (one for one in self._capitals(_LONE) if not self._is_ruled_out(one))
        mentions = list(all_mentions)[-2:]
        return next((mention for mention in mentions[:-1] if self.other(mention)), mentions[-1] if mentions else None)

    def corrected(self, mention: _Mention) -> _Mention:
        """Return what an answer corrects a letter to in the same breath: "B... no, wait, C"."""
        found = _CORRECTED.match(self._text, mention.end)
        instead = None if found is None else self._mention(found, is_declared=True)
        return instead if instead is not None and _ENDS.match(self._text, instead.end) else mention

    def _is_ruled_out(self, mention: _Mention) -> bool:
        return self._is_negated(mention.start) or _CALLED_WRONG.match(self._text, mention.end) is not None

    def _is_negated(self, start: int) -> bool:
        return _NEGATED.search(self._text, max(0, start - _NEGATION_CHARACTERS), start) is not None

    def other(self, mention: _Mention) -> str:
        """Return the letter that is named beside another as a second choice; empty when there is none."""
        found = _OTHER_AS_WELL.match(self._text, mention.end)
        letter = "" if found is None else found[found.lastindex or 0]
        capital = letter.upper()
        is_meant = capital in self._options.letters and (letter == capital or self._options.is_lower_case)
        return capital if is_meant and capital != mention.letter else ""

    def _after(self, cues: Iterable[tuple[int, int]]) -> Iterator[_Mention]:
        for _, end in cues:
            found = _SAID.match(self._text, end)
            mention = None if found is None else self._mention(found, is_declared=True)
            if mention is not None:
                yield mention

    def _capitals(self, pattern: re.Pattern[str]) -> Iterator[_Mention]:
        for found in pattern.finditer(self._text):
            mention = self._mention(found, is_declared=False)
            if mention is not None:
                yield mention

    def _mention(self, found: re.Match[str], *, is_declared: bool) -> _Mention | None:
        group = found.lastindex or 0
        start, end, letter = *found.span(group), found[group]
        capital = _capital(letter)
        if capital not in self._options.letters:
            return None
        is_small = letter != capital and letter not in _LATIN_OF
        if is_small and not self._options.is_lower_case and not (is_declared and _ENDS.match(self._text, end)):
            return None
        if is_declared and _ASKED.match(self._text, end):
            return None
        if letter in "AIai" and _GOES_ON.match(self._text, end):
            return None
        return _Mention(capital, start, end)


def _capital(letter: str) -> str:
    return _LATIN_OF.get(letter, letter.upper())
