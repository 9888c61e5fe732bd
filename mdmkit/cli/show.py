"""``mdmkit show``: a recipe with every default filled in, and the curves it induces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import typer

from mdmkit.cli.options import JsonOption, RecipeArgument, SetOption, print_json

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_EXPLANATION = """\
What this recipe trains on. Noise schedule, time sampler and loss weighting together decide two
curves: how often training sees the mask ratio r (density), and how much it counts there (weight).
The loss is, in expectation, the integral of weight(r) h(r) over r, where h(r) is the mean
cross-entropy of a masked token; the NELBO is the loss whose weight is 1 everywhere."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(recipe: RecipeArgument, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print a recipe with every default filled in; the output is a recipe that runs identically.

    Below it, as comments: the two curves that schedule, time sampler and weighting induce.
    """
    from mdmkit.plugins import load_catalogue
    from mdmkit.recipe import dump_recipe, load_recipe, recipe_toml

    catalogue = load_catalogue()
    loaded = load_recipe(recipe, overrides or (), catalogue=catalogue)
    if as_json:
        print_json({"recipe": dump_recipe(loaded, catalogue), **_curves_json(loaded)})
        return
    typer.echo(recipe_toml(loaded, catalogue))
    for line in _curve_lines(loaded):
        typer.echo(f"# {line}".rstrip())


def _curves_json(recipe: Recipe) -> dict[str, Any]:
    from mdmkit.report.curves import curves_over_training, why_no_curves

    reason = why_no_curves(recipe)
    if reason is not None:
        return {"curves": [], "no_curves": reason}
    return {"curves": [attrs.asdict(curves) for curves in curves_over_training(recipe)]}


def _curve_lines(recipe: Recipe) -> list[str]:
    from mdmkit.report.curves import curve_lines, curves_over_training, why_no_curves

    reason = why_no_curves(recipe)
    if reason is not None:
        return [f"No curves of mask ratio and weight: {reason}."]
    lines = _EXPLANATION.splitlines()
    for curves in curves_over_training(recipe):
        lines += ["", *curve_lines(curves)]
    return lines
