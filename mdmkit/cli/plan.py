"""``mdmkit plan``: what a recipe costs on some GPUs, and whether it fits, without one."""

from __future__ import annotations

from typing import Annotated

import typer

from mdmkit.cli.options import JsonOption, RecipeArgument, SetOption, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    recipe: RecipeArgument,
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs.")] = 1,
    gpu: Annotated[
        str,
        typer.Option(help="h100, h200, a100-80, a100-40, l40s or 4090; any other name with both "
                          "--gpu-memory and --gpu-tflops."),
    ] = "h100",
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.1, help="Memory of a GPU in GB (10^9 bytes).")
    ] = None,
    gpu_tflops: Annotated[
        float | None,
        typer.Option(min=0.1, help="Peak of a GPU: dense bfloat16, 10^12 FLOPs a second."),
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="GPUs of one machine.")] = 8,
    mfu: Annotated[
        float | None,
        typer.Option(min=0.001, max=1.0, help="Model FLOPs over peak; by default a cautious 0.35."),
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of a GPU-hour, in your currency.")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=2, help="Token ids, where the tokenizer is not at hand.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Say what a recipe costs: parameters, FLOPs, memory of a GPU by part, time, traffic.

    Nothing is trained or allocated, and no GPU is needed. Where it does not fit, the first change
    that makes it fit is named.
    """
    from mdmkit.costs.gpus import find_gpu
    from mdmkit.costs.plan import MFU, planner_of
    from mdmkit.costs.vocabulary import vocab_size_of
    from mdmkit.recipe import load_recipe
    from mdmkit.report.plan import plan_json, plan_lines

    loaded = load_recipe(recipe, overrides or ())
    planner = planner_of(
        loaded,
        vocab_size_of(loaded) if vocab_size is None else vocab_size,
        find_gpu(gpu, memory=gpu_memory, tflops=gpu_tflops),
        gpus=gpus,
        gpus_per_node=gpus_per_node,
        mfu=MFU if mfu is None else mfu,
        price=price,
    )
    if as_json:
        print_json(plan_json(planner))
    else:
        for line in plan_lines(planner):
            typer.echo(line)
