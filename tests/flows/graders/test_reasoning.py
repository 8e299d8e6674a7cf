"""Reasoning is removed from an answer, however the makers of an LLM mark it."""

import time

import pytest

from flows.graders.reasoning import without_reasoning

FAMILIES = {
    "MiniCPM": ("<|thought_start|>", "<|thought_end|>"),
    "MedGemma": ("<unused94>thought", "<unused95>"),
    "Reflection": ("<reflection>", "</reflection>"),
    "asked for one": ("<scratchpad>", "</scratchpad>"),
    "asked for a process": ("<thinking_process>", "</thinking_process>"),
    "DeepSeek": ("<think>", "</think>"),
    "Anthropic": ("<thinking>", "</thinking>"),
    "a namespace": ("<x:thinking>", "</x:thinking>"),
    "EXAONE": ("<thought>", "</thought>"),
    "Reka": ("<reasoning>", "</reasoning>"),
    "MiniMax": ("<mm:think>", "</mm:think>"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "LongCat": ("<longcat_think>", "</longcat_think>"),
    "Hunyuan": ("<think_fast>", "</think_fast>"),
    "with an attribute": ('<think budget="64">', "</think>"),
    "Magistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "OpenThinker": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "Command A": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "Granite": ("Here is my thought process:", "Here is my response:"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_marks_of_every_family_enclose_reasoning(family):
    opening, closing = FAMILIES[family]
    answer = "The answer is (B)."
    for said, rest in (
        (f"{opening}Surely (A).{closing}\n\n{answer}", answer),
        (f"Surely (A).{closing}{answer}", answer),
        (f"{opening}One {opening} quoted.{closing}{answer}", answer),
        (f"{opening}(A)?{closing}First.{opening}(C)?{closing}{answer}", answer),
        (f"{answer}{opening}or is it (A)", answer),
        (f"{answer}{opening}or is it (A)?{closing}", answer),
        (f"{opening}Surely (A).", ""),
        (f"{opening}Surely (A).{closing} ", ""),
        (f"{opening.upper()}Surely (A).{closing.upper()}{answer}", answer),
    ):
        assert without_reasoning(said).strip() == rest, said


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        ("<|channel|>analysis<|message|>(A)?<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>", "B"),
        ("<|channel|>analysis<|message|>(A)?<|end|><|channel|>final <|constrain|>JSON<|message|>B", "B"),
        ("<|channel|>analysis<|message|>(A)?", ""),
        ("<|start|>assistant<|channel|>final<|message|>B", "B"),
        ("<|channel|>commentary to=functions.x<|message|>{}<|call|><|channel|>final<|message|>B<|end|>", "B"),
        ("analysisWe need one letter. Not (A).assistantfinalB", "B"),
        ("<|START_THINKING|>(A)?<|END_THINKING|><|START_RESPONSE|>B<|END_RESPONSE|>", "B"),
        ("<|begin_of_thought|>(A)?<|end_of_thought|><|begin_of_solution|>B<|end_of_solution|>", "B"),
        ("<think>(A)?</think>\n<answer>B</answer>", "B"),
        ("<answer>B</answer>", "<answer>B</answer>"),
        ("B<|im_end|>\n</s>", "B"),
        ("</s>B", "</s>B"),
    ],
)
def test_channels_and_marks_around_the_answer_are_understood(said, rest):
    assert without_reasoning(said) == rest


@pytest.mark.parametrize(
    "said",
    [
        "",
        "B",
        "I think (B).",
        "analysis of variance",
        "<b>B</b>",
        "[B]",
        "a < think > b",
        "the final channel is B",
        "<p>x</p>",
    ],
)
def test_what_is_no_mark_stays(said):
    assert without_reasoning(said) == said


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "<think ", "<|channel|>", "<a:", "here is my ", "<|channel|>final"]
)
def test_no_repetition_takes_long(piece):
    started_s = time.monotonic()
    without_reasoning(piece * 20_000)
    assert time.monotonic() - started_s < 2
