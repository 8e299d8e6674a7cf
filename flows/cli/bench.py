"""``uniroute bench``: measure routing methods over a folder of recorded outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.screen import config_option, json_option

if TYPE_CHECKING:
    from flows.bench.report import BenchResult

_STUDY = (50, 100, 200, 500, 1000)


@click.command("bench")
@click.argument("data", required=False, type=click.Path(file_okay=False))
@click.option("--trials", default=100, show_default=True, type=click.IntRange(1, 10_000), help="Random splits.")
@click.option("--n-val", type=click.IntRange(1), help="Representative prompts a new LLM answers (default: 10 %).")
@click.option("--seed", default=0, show_default=True, help="Seed of the splits.")
@click.option("--methods", help="Only these methods, separated by commas.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON to this file.")
@click.option("--figures", type=click.Path(file_okay=False), help="Draw the deferral curves into this folder.")
@click.option("--n-val-study", is_flag=True, help="Measure 50 to 1 000 representative prompts.")
@click.option("--speed", is_flag=True, help="Measure speeds against bare numpy; DATA is not needed.")
@config_option
@json_option
def bench(
    data: str | None,
    trials: int,
    n_val: int | None,
    seed: int,
    methods: str | None,
    out: str | None,
    figures: str | None,
    n_val_study: bool,
    speed: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Measure routing methods over DATA, a folder of recorded outcomes, by the protocol of the UniRoute paper."""
    if speed:
        from flows.bench.speed import measure_speed

        click.echo(measure_speed())
        return
    if data is None:
        raise click.UsageError("DATA is missing: give a folder of recorded outcomes")
    from flows.bench.embeddings import embeddings_of
    from flows.bench.figures import deferral_figure, n_val_figure
    from flows.bench.folder import read_folder
    from flows.bench.protocol import run_trials
    from flows.bench.report import METHODS, as_text
    from flows.bench.report import as_json as result_json
    from flows.cli.opening import opened

    names = tuple(part.strip() for part in methods.split(",")) if methods else METHODS
    unknown = sorted(set(names) - set(METHODS))
    if unknown:
        raise click.UsageError(f"no method is called {', '.join(unknown)}; there are {', '.join(METHODS)}")
    folder = read_folder(Path(data))
    with opened(config) as workspace:
        embeddings = embeddings_of(workspace, folder)

    def measure(count: int | None) -> BenchResult:
        with click.progressbar(length=trials, label=folder.name, file=click.get_text_stream("stderr")) as bar:
            return run_trials(
                folder, embeddings, trials=trials, n_val=count, seed=seed, methods=names, on_trial=lambda: bar.update(1)
            )

    result = measure(n_val)
    if out is not None:
        Path(out).write_text(result_json(result), encoding="utf-8")
    drawn = [deferral_figure(result, Path(figures))] if figures is not None else []
    if n_val_study:
        results = [measure(count) for count in _STUDY if count <= len(folder.prompts) // 5]
        drawn.append(n_val_figure(results, Path(figures or ".")))
        click.echo("\n\n".join(as_text(found, folder) for found in results), err=as_json)
    click.echo(result_json(result) if as_json else as_text(result, folder))
    for path in drawn:
        click.echo(f"figure: {path}", err=True)
