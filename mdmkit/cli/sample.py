"""``mdmkit sample``: text from a trained run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sample")(sample_run)


def sample_run(
    run: RunArgument,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", help="How many texts; else 4. Of each template; else 1."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="Tokens of each, with the prompt; else the block length.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal texts.")] = 0,
    prompt: Annotated[str, typer.Option(help="Text that each begins with.")] = "",
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Text with gaps: [MASK:12] is one of 12 tokens, [MASK:3-8] one whose length is "
            "chosen, [BOS] and [EOS] are special tokens, \\[ is a bracket; repeatable.",
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Templates, one a line: .txt as they are, .jsonl with the keys template and id.",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(help="Masks by which a length of [MASK:3-8] is chosen; else 32."),
    ] = None,
    use: Annotated[
        str | None, typer.Option(metavar="SAMPLER", help="Short for --set sampler.use=….")
    ] = None,
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
    compile_blocks: Annotated[
        bool, typer.Option("--compile", help="Compile the network; for many texts.")
    ] = False,
    precision: Annotated[str | None, typer.Option("--precision", hidden=True)] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the texts while they are unmasked.")
    ] = False,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the texts to this new file instead: .jsonl as JSON, one a line, or .txt.",
        ),
    ] = None,
    runs_dir: RunsDirOption = None,
) -> None:
    """Generate text with a trained run, or fill the gaps of a text."""
    import attrs
    from rich.console import Console

    from mdmkit.errors import RecipeError
    from mdmkit.evaluation.generate import sample
    from mdmkit.evaluation.infilling.template_file import read_templates
    from mdmkit.report.sample_files import require_place, write_samples
    from mdmkit.report.tables import print_samples

    if precision is not None:
        raise RecipeError(
            f"--precision: a text has none; for the arithmetic use --dtype {precision}"
        )
    if out is not None:
        require_place(out)
    listed = [] if templates is None else read_templates(templates)
    side = Console(stderr=True)
    with _on_the_way(side, watch) as shown:
        samples = sample(
            run,
            n=n,
            length=length,
            seed=seed,
            prompt=prompt,
            templates=[*(template or ()), *listed],
            draws=draws,
            use=use,
            steps=steps,
            overrides=overrides or (),
            checkpoint=checkpoint,
            ema=ema,
            device=device,
            dtype=dtype,
            compile=compile_blocks,
            batch_size=batch_size,
            runs_dir=runs_dir,
            notify=lambda text: side.print(text, markup=False, highlight=False, soft_wrap=True),
            **shown,
        )
    if out is not None:
        write_samples(out, samples)
        texts = "1 text" if len(samples) == 1 else f"{len(samples)} texts"
        typer.echo(f"{out}: {texts} written", err=True)
    if as_json:
        print_json([attrs.asdict(text) for text in samples])
    elif out is None:
        print_samples(Console(), samples)


@contextlib.contextmanager
def _on_the_way(console: Console, watch: bool) -> Iterator[dict[str, Any]]:
    """What `sample` tells of its work: every state, or how much is done."""
    from mdmkit.report.counting import counting
    from mdmkit.report.watching import watching

    if watch and console.is_terminal:
        with watching(console) as show:
            yield {"watch": show}
        return
    if watch:
        typer.echo("--watch: there is no terminal to show them on; the texts come whole", err=True)
    with counting(console) as progress:
        yield {"progress": lambda done, total: progress("texts", done, total)}
