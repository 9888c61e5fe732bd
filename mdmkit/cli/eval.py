"""``mdmkit eval``: numbers about a trained run."""

from __future__ import annotations

from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import (
    BatchSizeOption,
    CheckpointOption,
    DeviceOption,
    EmaOption,
    PrecisionOption,
    RunArgument,
    RunsDirOption,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate_run)


def evaluate_run(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TABLE.KEY=VALUE",
            help="Change a key of [evaluators] or [sampler]; repeatable.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of every evaluator that has one: train, validation or test."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Monte-Carlo draws, of every evaluator that has them.")
    ] = None,
    ema: EmaOption = True,
    checkpoint: CheckpointOption = None,
    seed: Annotated[int, typer.Option(help="Of the evaluation; equal seeds: equal masks.")] = 0,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """Run the evaluators of a trained run; the numbers also go to its eval/<label>.json."""
    from rich.console import Console

    from mdmkit.evaluation.evaluate import evaluate
    from mdmkit.report.counting import counting
    from mdmkit.report.tables import print_results

    side = Console(stderr=True)
    with counting(side) as progress:
        results = evaluate(
            run,
            overrides=overrides or (),
            split=split,
            draws=draws,
            checkpoint=checkpoint,
            ema=ema,
            seed=seed,
            batch_size=batch_size,
            device=device,
            precision=precision,
            runs_dir=runs_dir,
            notify=lambda text: side.print(text, markup=False, highlight=False, soft_wrap=True),
            progress=progress,
        )
    if as_json:
        print_json({label: result.to_json() for label, result in results.items()})
    else:
        print_results(Console(), results)
