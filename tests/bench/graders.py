"""Measure how the graders agree with recorded verdicts, before and after a change: ``make bench-graders``.

The answers are those of real LLMs to MMLU-Pro with the verdicts of its own evaluation, where 0 also stands for answers
from which nobody could extract a letter, and a guess stands in for some of them. ``BEFORE=main`` names the revision of
the graders to compare with; ``DATA=FOLDER`` a folder with ``prompts``, ``outcomes`` and ``responses.parquet``.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd

from flows.graders.choice import chosen_letters
from flows.graders.options import options_of
from flows.sandbox.recording import FOLDER
from flows.text import table

_ROOT = Path(__file__).resolve().parents[2]
_CASES = _ROOT / "tests" / "data" / "grader-cases.json"
# What the evaluation of MMLU-Pro extracts first.
_EXTRACTED = re.compile(r"answer is \(?([A-J])\)?")
# Runs in a process of its own for every revision: all of them are called flows.graders.
_GRADE = """
import json, sys, time
import pandas as pd
from flows.graders import grader

def graded(name, answer, reference, question):
    try:
        found = grader(name).grade(answer, reference, question)
    except TypeError:  # before graders saw the prompt
        found = grader(name).grade(answer, reference)
    return getattr(found, "score", found), getattr(found, "is_unreadable", None)

answers = pd.read_parquet(sys.argv[1])
cases = json.loads(open(sys.argv[2], encoding="utf-8").read())
started_s = time.process_time()
grades = [graded("choice", *row) for row in answers.itertuples(index=False)]
cpu_s = time.process_time() - started_s
passed = {}
for case in cases:
    if case["area"].startswith("grader "):
        score, _ = graded(case["area"].removeprefix("grader "), case["answer"], case["reference"], "")
        passed[case["id"]] = score == float(case["expected"])
pd.DataFrame(grades, columns=["score", "is_unreadable"]).to_parquet(sys.argv[3])
print(json.dumps({"cpu_s": cpu_s, "passed": passed}))
"""


@dataclass(frozen=True)
class Graded:
    """What the graders of one revision make of the answers.

    Attributes
    ----------
    scores
        One per answer.
    is_unreadable
        Whether no letter was found; None for revisions that did not say so.
    cpu_s
        Seconds of processor time for all answers.
    passed
        By id, whether a reported case gets its right score.
    """

    scores: pd.Series
    is_unreadable: pd.Series
    cpu_s: float
    passed: dict[str, bool]


def grade_with(source: Path, answers: Path, folder: Path) -> Graded:
    """Grade answers with the graders of a source tree.

    Parameters
    ----------
    source
        The tree.
    answers
        Parquet file of answer, reference and question.
    folder
        Folder for the result.
    """
    result = folder / "grades.parquet"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", _GRADE, answers, _CASES, result],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout)
    grades = pd.read_parquet(result)
    return Graded(grades["score"], grades["is_unreadable"], found["cpu_s"], found["passed"])


def recorded_answers(data: Path) -> pd.DataFrame:
    """Return every recorded answer with its LLM, prompt, reference and verdict."""
    prompts = pd.read_parquet(data / "prompts.parquet", columns=["prompt_id", "text", "reference"])
    verdicts = pd.read_parquet(data / "outcomes.parquet", columns=["prompt_id", "model", "score"])
    responses = pd.read_parquet(data / "responses.parquet")
    found = responses.merge(verdicts, on=["prompt_id", "model"], validate="1:1").merge(prompts, on="prompt_id")
    found["response"] = found["response"].fillna("")
    return found.rename(columns={"model": "llm", "score": "recorded"})


def kind_of(answer: str, question: str, score: float) -> str:
    """Return why the verdict on an answer differs from the recorded one."""
    letters = chosen_letters(answer, options_of(question), question)
    extracted = _EXTRACTED.search(answer)
    if score:
        if extracted is None:
            return "recorded 0: right letter, in words that were not extracted"
        if extracted[1] != letters:
            return "recorded 0: an earlier letter was extracted, ours is the one it settles on"
        return "recorded 0 although the right letter was extracted"
    if not letters:
        return "recorded 1: no letter; the recorded one was guessed"
    return f"recorded 1: {'several letters are named' if len(letters) > 1 else 'the answer settles on another letter'}"


def report(answers: pd.DataFrame, before: Graded, after: Graded) -> None:
    """Print agreement per LLM, every kind of disagreement, cases passed and what grading costs."""
    agreed = {name: graded.scores == answers["recorded"] for name, graded in (("before", before), ("after", after))}
    per_llm = pd.DataFrame({"llm": answers["llm"], **agreed, "unreadable": after.is_unreadable})
    rows: list[Sequence[str]] = []
    for llm, group in [*per_llm.groupby("llm"), ("all", per_llm)]:
        shares = [f"{group[name].mean():.2%}" for name in ("before", "after", "unreadable")]
        rows.append((str(llm), f"{len(group):,}", *shares))
    click.echo(table(("LLM", "ANSWERS", "AGREED BEFORE", "AGREE", "UNREADABLE"), rows, right=(1, 2, 3, 4)))

    differing = answers[~agreed["after"]]
    kinds = [
        (kind_of(answer, question, 1.0 - recorded), bool(was_agreed))
        for answer, question, recorded, was_agreed in zip(
            differing["response"],
            differing["text"],
            differing["recorded"],
            agreed["before"][~agreed["after"]],
            strict=True,
        )
    ]
    counts, new = Counter(kind for kind, _ in kinds), Counter(kind for kind, was_agreed in kinds if was_agreed)
    listed = [(kind, f"{count:,}", f"{new[kind]:,}") for kind, count in counts.most_common()]
    click.echo("\n" + table(("DISAGREEMENT", "ANSWERS", "NEW"), listed, right=(1, 2)))

    areas = {case["id"]: case["area"] for case in json.loads(_CASES.read_text(encoding="utf-8"))}
    passed = []
    for area in sorted({areas[case] for case in after.passed}):
        own = [case for case in after.passed if areas[case] == area]
        passed.append(
            (area, f"{len(own)}", *(f"{sum(graded.passed[one] for one in own)}" for graded in (before, after)))
        )
    click.echo("\n" + table(("REPORTED CASES", "ALL", "PASSED BEFORE", "PASSED"), passed, right=(1, 2, 3)))

    seconds = [f"{graded.cpu_s / len(answers) * 10_000:.2f}" for graded in (before, after)]
    click.echo(f"\nseconds of processor time per 10,000 answers: {seconds[0]} before, {seconds[1]} after")


def _archive(revision: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        raise click.ClickException("git is needed to read the graders of another revision")
    listed = [git, "archive", revision, "flows", "registry", "routing"]
    return subprocess.run(listed, cwd=_ROOT, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603 - our own tree


@click.command()
@click.option(
    "--data", type=click.Path(exists=True, path_type=Path), default=FOLDER, help="Folder of recorded answers."
)
@click.option("--before", default="HEAD", help="Revision of the graders to compare with.")
def main(data: Path, before: str) -> None:
    """Grade recorded answers with the graders of a revision and with those of this tree."""
    answers = recorded_answers(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, graded = folder / "before", folder / "answers.parquet"
        old.mkdir()
        with tarfile.open(fileobj=io.BytesIO(_archive(before))) as archive:
            archive.extractall(old, filter="data")
        answers[["response", "reference", "text"]].to_parquet(graded)
        report(answers, grade_with(old, graded, folder), grade_with(_ROOT, graded, folder))


if __name__ == "__main__":
    main()
