"""``mdmkit import`` and ``mdmkit export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder in the layout of kuleshov-group/mdlm-owt, a Lightning checkpoint "
            "(.ckpt) of MDLM's training, a folder that `mdmkit export` made, or owner/name on the "
            "hub.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run directory that is made.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch on the hub; else the newest.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Its tokenizer: a folder or file of GPT-2's (vocab.json), BERT's (vocab.txt) or "
            "tokenizer.json; else from the hub.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the run; else that of DIR, or of the run that was exported."),
    ] = None,
    ema: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema",
            help="Of a checkpoint: the average over training (the default), or the raw weights.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="TABLE.KEY=VALUE", help="Change a key of the recipe; repeatable."
        ),
    ] = None,
) -> None:
    """Make a run of published weights, to evaluate and to generate with.

    Nothing that is read is executed.
    """
    from mdmkit_hf.importing.run import import_run

    made = import_run(
        source,
        out,
        revision=revision,
        tokenizer=tokenizer,
        name=name,
        ema=ema,
        overrides=overrides or (),
    )
    typer.echo(str(made))


def export(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run directory, or its name in the folder of runs."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder that is made.")],
    checkpoint: Annotated[
        int | None, typer.Option(metavar="STEP", help="The step; else the newest checkpoint.")
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema/--no-ema", help="The averaged weights, or the raw ones.")
    ] = True,
    dtype: Annotated[
        Literal["bf16", "fp32"], typer.Option(help="Of the weights: bf16 or fp32.")
    ] = "fp32",
    shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest file of weights, such as 5GB.")
    ] = "5GB",
    runs_dir: Annotated[
        Path | None, typer.Option(help="The folder of runs; else MDMKIT_RUNS_DIR, else runs.")
    ] = None,
) -> None:
    """Make a folder of a run that transformers and safetensors read, with tokenizer and card."""
    from mdmkit_hf.exporting.run import export_run

    made = export_run(
        run,
        out,
        checkpoint=checkpoint,
        ema=ema,
        dtype=dtype,
        shard_size=shard_size,
        runs_dir=runs_dir,
    )
    typer.echo(str(made))
