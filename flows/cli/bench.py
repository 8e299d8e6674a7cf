"""``uniroute bench``: measure routing methods over a folder of recorded outcomes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.options import config_option, json_option, opened
from flows.cli.screen import show
from flows.text import counted, sanitize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flows.bench.folder import OutcomeFolder
    from flows.bench.report import BenchResult

_STUDY = (50, 100, 200, 500, 1000)


@click.command("bench")
@click.argument("data", required=False, type=click.Path(file_okay=False))
@click.option("--trials", default=100, show_default=True, type=click.IntRange(1, 10_000), help="Random splits.")
@click.option("--n-val", type=click.IntRange(1), help="Representative prompts that a new LLM answers (default: 10 %).")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the splits.")
@click.option("--methods", help="Only these methods, separated by commas.")
@click.option("--embedder", help="Use this embedder instead of that of the settings.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the results as JSON to this file.")
@click.option("--figures", type=click.Path(file_okay=False), help="Draw the deferral curves into this folder.")
@click.option("--n-val-study", is_flag=True, help="Measure with 50 to 1,000 representative prompts.")
@click.option("--speed", is_flag=True, help="Measure speed against plain numpy; needs no DATA.")
@config_option
@json_option
def bench(
    data: str | None,
    trials: int,
    n_val: int | None,
    seed: int,
    methods: str | None,
    embedder: str | None,
    out: str | None,
    figures: str | None,
    n_val_study: bool,
    speed: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Measure routing methods over DATA, a folder of recorded outcomes.

    The protocol is that of the UniRoute paper.
    """
    if speed:
        _show_speeds(config, as_json=as_json)
        return
    if data is None:
        raise click.UsageError("DATA is missing: give a folder of recorded outcomes")
    names = _methods(methods)
    click.echo(f"read {sanitize(data)}", err=True)
    from flows.bench.folder import read_folder
    from flows.bench.progress import Progress

    folder = read_folder(Path(data))
    counts = _study_counts(folder) if n_val_study else ()
    drawn_into = Path(figures) if figures is not None else Path() if n_val_study else None
    _create_folders(Path(out).parent if out is not None else None, drawn_into)
    embeddings = _embedded(folder, embedder, config)

    def measure(count: int | None) -> BenchResult:
        from flows.bench.protocol import run_trials

        what = f"measure {folder.name}" + ("" if count is None else f", {count} representative prompts")
        done = itertools.count(1)
        with Progress(what, "trials", trials) as shown:
            return run_trials(
                folder,
                embeddings,
                trials=trials,
                n_val=count,
                seed=seed,
                methods=names,
                on_trial=lambda: shown.show(next(done)),
            )

    result = measure(n_val)
    _show_result(result, folder, out=out, figures=figures, as_json=as_json)
    if drawn_into is not None and counts:
        _show_study([measure(count) for count in counts], folder, drawn_into, as_json=as_json)


def _embedded(folder: OutcomeFolder, embedder: str | None, config: str | None) -> NDArray[np.float32]:
    """Return the embeddings of the prompts; progress appears when there are any to compute."""
    from flows.bench.embeddings import embeddings_of
    from flows.bench.progress import Progress

    with opened(config) as workspace, ExitStack() as stack:
        shown: list[Progress] = []

        def show(done: int, of: int, share: float) -> None:
            if not shown:
                shown.append(stack.enter_context(Progress(f"embed {folder.name}", "prompts", of)))
            shown[0].show(done, share)

        chosen = workspace.open_embedder(embedder) if embedder else None
        return embeddings_of(workspace, folder, embedder=chosen, on_progress=show)


def _show_speeds(config: str | None, *, as_json: bool) -> None:
    """Measure speeds; print each on standard error at once, and all of them as a table at the end."""
    from flows.bench.speed import measured_speeds, speed_table
    from flows.config.loading import load_settings

    speeds = []
    for speed in measured_speeds(load_settings(config).home / "embedders"):
        click.echo(f"{speed.what}: {speed.measured}", err=True)
        speeds.append(speed)
    show("bench", {"speeds": [asdict(speed) for speed in speeds]}, as_json=as_json, text=lambda: speed_table(speeds))


def _methods(given: str | None) -> tuple[str, ...]:
    from flows.bench.report import METHODS

    chosen = [part.strip() for part in (given or "").split(",") if part.strip()]
    unknown = sorted(set(chosen) - set(METHODS))
    if unknown:
        raise click.UsageError(f"unknown method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in chosen) or METHODS


def _study_counts(folder: OutcomeFolder) -> tuple[int, ...]:
    """Return the numbers of representative prompts to measure; above a fifth, too few map prompts would be left."""
    from flows.errors import PrerequisiteError

    counts = tuple(count for count in _STUDY if count <= len(folder.prompts) // 5)
    if not counts:
        raise PrerequisiteError(
            f"{folder.name} has {counted(len(folder.prompts), 'prompt')}, too few for --n-val-study.",
            unchanged="Nothing was measured.",
            hint=f"It takes {5 * _STUDY[0]}; without --n-val-study, a tenth of the prompts is representative.",
        )
    return counts


def _create_folders(*folders: Path | None) -> None:
    """Create the folders for the results, before anything is measured that could not be saved."""
    from flows.errors import PrerequisiteError

    for folder in folders:
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PrerequisiteError(
                f"{folder} cannot be created: {error.strerror}.",
                unchanged="Nothing was measured.",
                hint="Name another place with --out and --figures.",
            ) from None


def _show_result(
    result: BenchResult, folder: OutcomeFolder, *, out: str | None, figures: str | None, as_json: bool
) -> None:
    from flows.bench.figures import deferral_figure
    from flows.bench.report import as_json as result_json
    from flows.bench.report import as_text

    if out is not None:
        Path(out).write_text(result_json(result), encoding="utf-8")
    show("bench", json.loads(result_json(result)), as_json=as_json, text=lambda: as_text(result, folder))
    if figures is not None:
        click.echo(f"figure: {deferral_figure(result, Path(figures))}", err=True)


def _show_study(results: Sequence[BenchResult], folder: OutcomeFolder, into: Path, *, as_json: bool) -> None:
    from flows.bench.figures import n_val_figure
    from flows.bench.report import study_as_json, study_as_text

    drawn = n_val_figure(results, into)
    numbers = drawn.with_suffix(".json")
    numbers.write_text(study_as_json(results), encoding="utf-8")
    click.echo("\n" + study_as_text(results), err=as_json)
    click.echo(f"figure: {drawn}\nfigures as numbers: {numbers}", err=True)
