"""``mdmkit eval``: numbers about a trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import (
    BatchSizeOption,
    CheckpointOption,
    DeviceOption,
    DtypeOption,
    EmaOption,
    RunsDirOption,
)
from mdmkit.cli.side import prints, said, side
from mdmkit.errors import RecipeError

ZERO_SHOT = "zero_shot"
DTYPES = ("bf16", "fp32")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate_run)


def evaluate_run(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="A run directory, or its name in the folder of runs; with a suite also several.",
        ),
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help=f"Short for --suite {ZERO_SHOT}.")
    ] = False,
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            metavar="NAME|FILE",
            help="Measure on the sets of a suite (see: mdmkit recipes); repeatable.",
        ),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="LABEL=FILE",
            help="Read that set of the suite from a local file or folder; repeatable.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL,...",
            help="Only these sets or grids of the suite; patterns such as 'cached-*'.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without sets that cannot be had.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Whose protocol: mdlm, duo or bd3lm; else our own."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Repeat what eval/<suite>.json of a run says, and say whether it is found again.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TABLE.KEY=VALUE",
            help="Change a key of [evaluators] or [sampler], with a suite of its [protocol] and "
            "[sets]; repeatable.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|MODEL",
            help="Who judges generated text, of every evaluator that has one: a run, else a model "
            "of the hub or its folder; run:NAME and model:NAME say which.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of every evaluator that has one: train, validation or test."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Monte-Carlo draws, of every evaluator that has them.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Draw until the error of the draws is this share of the NELBO, such as 0.01. "
            "The rest of the error takes more text.",
        ),
    ] = None,
    ema: EmaOption = True,
    checkpoint: CheckpointOption = None,
    seed: Annotated[int, typer.Option(help="Of the evaluation; equal seeds: equal masks.")] = 0,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of a suite with grids of samplers: write <suite>.json, .svg and .png there; the "
            "pictures need: pip install 'mdmkit[plot]'.",
        ),
    ] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = None,
) -> None:
    """Measure trained runs: by the evaluators of their recipe, or on the sets of a suite.

    The numbers also go to eval/<label>.json of the run, those of a suite to eval/<suite>.json.
    Under torchrun the processes share the work.
    """
    common: dict[str, Any] = {
        "overrides": overrides or (),
        "split": split,
        "draws": draws,
        "precision": _share(precision),
        "checkpoint": checkpoint,
        "ema": ema,
        "seed": seed,
        "batch_size": batch_size,
        "device": device,
        "dtype": dtype,
        "runs_dir": runs_dir,
    }
    names = [*([ZERO_SHOT] if zero_shot else []), *(suites or ())]
    suite_options = {
        "--source": sources, "--only": only, "--allow-missing": allow_missing, "--preset": preset,
        "--judge": judge, "--out": out,
    }  # fmt: skip
    if replay is not None:
        measuring = {
            "--set": overrides, "--split": split, "--draws": draws, "--precision": precision,
            "--no-ema": not ema, "--checkpoint": checkpoint, "--seed": seed,
            "--batch-size": batch_size, "--dtype": dtype,
        }  # fmt: skip
        _refuse_beside_replay(names, {**suite_options, **measuring}, runs or ())
        where = {"run": runs[0] if runs else None, "device": device, "runs_dir": runs_dir}
        _replay(
            replay, {**where, "sources": _sources(sources), "allow_missing": allow_missing}, as_json
        )
    elif names:
        from mdmkit.cli.suite_output import evaluate_suites

        suite = {
            "preset": preset,
            "allow_missing": allow_missing,
            "only": _labels(only),
            "judge": judge,
        }
        evaluate_suites(_some(runs), names, _sources(sources), {**common, **suite}, as_json, out)
    else:
        for option, value in suite_options.items():
            if value:
                raise RecipeError(f"{option}: needs a suite; add --zero-shot or --suite NAME")
        run, *more = _some(runs)
        if more:
            raise RecipeError(
                f"RUN: {len(more) + 1} runs need a suite to be measured on; add --suite NAME"
            )
        _recipe(run, common, as_json)


def _recipe(run: str, options: Mapping[str, Any], as_json: bool) -> None:
    """The evaluators of the run's own recipe."""
    from rich.console import Console

    from mdmkit.evaluation.evaluate import evaluate
    from mdmkit.report.counting import counting
    from mdmkit.report.tables import print_results

    aside = side()
    with counting(aside) as progress:
        results = evaluate(run, **options, notify=said(aside), progress=progress)
    if not prints():
        return
    if as_json:
        print_json({label: result.to_json() for label, result in results.items()})
    else:
        print_results(Console(), results)


def _replay(path: Path, options: Mapping[str, Any], as_json: bool) -> None:
    from rich.console import Console

    from mdmkit.evaluation.replay import replay
    from mdmkit.report.counting import counting
    from mdmkit.report.suite_table import print_replay

    aside = side()
    with counting(aside) as progress:
        found = replay(path, **options, notify=said(aside), progress=progress)
    if prints():
        if as_json:
            print_json(found.to_json())
        else:
            print_replay(Console(), found)
    if not found.matches:
        raise typer.Exit(1)


def _refuse_beside_replay(
    names: Sequence[str], options: Mapping[str, Any], runs: Sequence[str]
) -> None:
    allowed = {"--source", "--allow-missing"}
    given = [name for name, value in options.items() if value and name not in allowed]
    if names:
        given.insert(0, "--suite")
    if given:
        raise RecipeError(f"--replay: repeats what the file says; leave out {', '.join(given)}")
    if len(runs) > 1:
        raise RecipeError(f"--replay: expected one RUN or none, got {len(runs)}")


def _some(runs: Sequence[str] | None) -> Sequence[str]:
    if not runs:
        raise RecipeError("RUN: missing; expected a run directory or the name of a run")
    return runs


def _share(text: str | None) -> float | None:
    """The value of --precision."""
    if text is None:
        return None
    if text in DTYPES:
        raise RecipeError(
            f"--precision: is the relative error that is wanted, such as 0.01; for the arithmetic "
            f"use --dtype {text}"
        )
    try:
        return float(text)
    except ValueError as error:
        raise RecipeError(
            f'--precision: expected a number such as 0.01, got "{text}" (bf16 and fp32 belong to '
            "--dtype)"
        ) from error


def _sources(texts: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        label, separator, path = text.partition("=")
        if not (separator and label and path):
            raise RecipeError(f'--source: expected LABEL=FILE, got "{text}"')
        if label in found:
            raise RecipeError(f'--source: "{label}" is given twice')
        found[label] = path
    return found


def _labels(text: str | None) -> list[str]:
    labels = [label.strip() for label in (text or "").split(",") if label.strip()]
    if text is not None and not labels:
        raise RecipeError(
            f'--only: names no set, got "{text}"; expected labels, names of grids or patterns, '
            "with commas between them"
        )
    return labels
