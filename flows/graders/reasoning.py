"""Reasoning: what an LLM says to itself before it answers is removed, however its makers mark it.

Servers should send reasoning apart from the answer, but one that is started without the parser of an LLM leaves it in
the text. The marks are those of the chat templates of current LLMs: DeepSeek, Qwen, Phi and many others (``<think>``),
Anthropic (``<thinking>``), EXAONE (``<thought>``), Reka (``<reasoning>``), MiniMax (``<mm:think>``), Seed
(``<seed:think>``), LongCat (``<longcat_think>``), Magistral (``[THINK]``), Kimi (``◁think▷``), OpenThinker
(``<|begin_of_thought|>``), Command A (``<|START_THINKING|>``), Apertus (``<|inner_prefix|>``), Gemma
(``<|channel>thought``), MiniCPM (``<|thought_start|>``), MedGemma (``<unused94>``), Granite
("Here is my thought process:") and gpt-oss (harmony channels).
"""

from __future__ import annotations

import re
from typing import Final

_TAG = r"(?:\w{1,20}[:_])?(?:think(?:ing)?(?:_\w{1,20})?|thoughts?|reasoning|reflection|scratchpad|analysis)"
_OPENING = re.compile(
    rf"<{_TAG}(?:\s[^<>]{{0,80}})?>|\[(?:think|thinking|reasoning)\]|◁think▷|<\|think(?:ing)?\|>"
    r"|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|inner_prefix\|>|<\|channel>thought"
    r"|<\|thought_start\|>|<unused94>(?:thought)?"
    r"|here(?:'s|’s| is) my thought process:",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"</{_TAG}\s?>|\[/(?:think|thinking|reasoning)\]|◁/think▷|<\|/think(?:ing)?\|>"
    r"|<\|end_of_thought\|>|<\|END_THINKING\|>|<\|inner_suffix\|>|<channel\|>"
    r"|<\|thought_end\|>|<unused95>"
    r"|here(?:'s|’s| is) my response:",
    re.IGNORECASE,
)
# Marks that some of these templates set around the answer.
_AROUND_ANSWERS = re.compile(r"<\|(?:START|END)_(?:RESPONSE|TEXT)\|>|<\|(?:begin|end)_of_solution\|>")
_WHOLE_ANSWER = re.compile(r"\s*<(answer|response|output)>(.*)</\1>\s*", re.DOTALL | re.IGNORECASE)
# What ends a turn, where a server leaves it in the text.
_END_OF_TURN = re.compile(
    r"(?:</s>|<eos>|<end_of_turn>|<[|｜](?:im_end|eot_id|eom_id|end_of_text|endoftext|end▁of▁sentence|return|end)[|｜]>)\Z"
)
_MOST_ENDS: Final = 3
_HARMONY_CHANNEL = re.compile(r"<\|channel\|>\s*(\w*)[^<]*(?:<\|constrain\|>[^<]*)?(?:<\|message\|>)?")
_HARMONY_END = re.compile(r"<\|(?:start|end|return|call|channel)\|>")
# What is left of two channels where a server drops the marks: "analysisWe need to ...assistantfinalThe answer is (B)."
_BARE_ANALYSIS, _BARE_FINAL = "analysis", "assistantfinal"


def without_reasoning(completion: str) -> str:
    """Return the answer that follows the reasoning of an LLM.

    Everything up to the last closing mark is reasoning, whether or not it was opened (chat templates open it for the
    LLM); where nothing follows, the answer is what stands outside the marks. Reasoning that is opened and never closed
    reaches to the end. Case is ignored. Marks around a whole answer that follows reasoning (``<answer>``), and those
    that end a turn (``<|im_end|>``), are removed.

    Parameters
    ----------
    completion
        What the LLM said.

    Returns
    -------
    str
        The rest, possibly empty; the whole completion when it holds no reasoning.
    """
    if "<|channel|>" in completion:
        return _final_channel(completion)
    if completion.lstrip().startswith(_BARE_ANALYSIS) and _BARE_FINAL in completion:
        return completion.rpartition(_BARE_FINAL)[2]
    answer = _until_reasoning(completion[_end_of_reasoning(completion) :])
    if not answer.strip():
        outside = _outside_of_pairs(completion)
        answer = _until_reasoning(outside[_end_of_reasoning(outside) :])
    answer = _AROUND_ANSWERS.sub("", answer)
    whole = None if answer == completion else _WHOLE_ANSWER.fullmatch(answer)
    return _without_end_of_turn(answer if whole is None else whole[2])


def _without_end_of_turn(answer: str) -> str:
    for _ in range(_MOST_ENDS):
        kept = answer.rstrip()
        end = _END_OF_TURN.search(kept, max(0, len(kept) - 24))
        if end is None:
            break
        answer = kept[: end.start()]
    return answer


def _end_of_reasoning(text: str) -> int:
    end = 0
    for closing in _CLOSING.finditer(text):
        end = closing.end()
    return end


def _until_reasoning(text: str) -> str:
    opening = _OPENING.search(text)
    return text if opening is None else text[: opening.start()]


def _outside_of_pairs(text: str) -> str:
    """Return the text without everything that is opened and closed again."""
    kept, position = [], 0
    while (opening := _OPENING.search(text, position)) is not None:
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            break
        kept.append(text[position : opening.start()])
        position = closing.end()
    return "".join(kept) + text[position:]


def _final_channel(text: str) -> str:
    """Return what gpt-oss says in its last final channel; the others are not for the reader."""
    answer = ""
    for channel in _HARMONY_CHANNEL.finditer(text):
        if channel[1] == "final":
            end = _HARMONY_END.search(text, channel.end())
            answer = text[channel.end() : end.start() if end is not None else len(text)]
    return answer
