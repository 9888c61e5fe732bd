"""``mdmkit sample``: text from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, print_json
from mdmkit.cli.run_options import (
    BatchSizeOption,
    CheckpointOption,
    DeviceOption,
    DtypeOption,
    EmaOption,
    RunArgument,
    RunsDirOption,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample")(sample_run)


def sample_run(
    run: RunArgument,
    n: Annotated[int, typer.Option("--n", "-n", help="How many texts.")] = 4,
    length: Annotated[
        int | None, typer.Option(help="Tokens of each, with the prompt; else the block length.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal texts.")] = 0,
    prompt: Annotated[str, typer.Option(help="Text that each begins with.")] = "",
    steps: Annotated[int | None, typer.Option(help="Short for --set sampler.steps=….")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="TABLE.KEY=VALUE", help="Change a key of [sampler]; repeatable."
        ),
    ] = None,
    ema: EmaOption = True,
    checkpoint: CheckpointOption = None,
    batch_size: BatchSizeOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    precision: Annotated[str | None, typer.Option("--precision", hidden=True)] = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the texts to this new file instead, as JSON, one a line."),
    ] = None,
    runs_dir: RunsDirOption = None,
) -> None:
    """Generate text with a trained run."""
    import attrs
    from rich.console import Console

    from mdmkit.errors import RecipeError
    from mdmkit.evaluation.generate import sample
    from mdmkit.report.counting import counting
    from mdmkit.report.tables import print_samples

    if precision is not None:
        raise RecipeError(
            f"--precision: a text has none; for the arithmetic use --dtype {precision}"
        )
    if out is not None:
        _require_new(out)
    side = Console(stderr=True)
    with counting(side) as progress:
        samples = sample(
            run,
            n=n,
            length=length,
            seed=seed,
            prompt=prompt,
            steps=steps,
            overrides=overrides or (),
            checkpoint=checkpoint,
            ema=ema,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            runs_dir=runs_dir,
            notify=lambda text: side.print(text, markup=False, highlight=False, soft_wrap=True),
            progress=lambda done, total: progress("texts", done, total),
        )
    plain = [attrs.asdict(text) for text in samples]
    if out is not None:
        _write_lines(out, plain)
        typer.echo(f"{out}: {len(plain)} texts written", err=True)
    if as_json:
        print_json(plain)
    elif out is None:
        print_samples(Console(), samples)


def _require_new(path: Path) -> None:
    from mdmkit.errors import MdmkitError

    if path.exists():
        raise MdmkitError(f"--out: {path} exists already; choose another name, or remove it")
    if not path.parent.is_dir():
        raise MdmkitError(f"--out: there is no folder {path.parent}; make it first")


def _write_lines(path: Path, samples: list[dict[str, object]]) -> None:
    import json

    from mdmkit.files import explained, write_atomic

    lines = (json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in samples)
    with explained(path, "make room, or choose another place with --out"):
        write_atomic(path, "".join(f"{line}\n" for line in lines))
