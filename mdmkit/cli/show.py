"""``mdmkit show``: a recipe with every default filled in, and the curves it induces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from mdmkit.cli.options import JsonOption, RecipeArgument, SetOption, print_json

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe
    from mdmkit.report.agreement import Comparison

Plain = dict[str, Any]

_EXPLANATION = """\
What this recipe trains on. Noise schedule, time sampler and loss weighting together decide two
curves: how often training sees the mask ratio r (density), and how much it counts there (weight).
The loss is, in expectation, the integral of weight(r) h(r) over r, where h(r) is the mean
cross-entropy of a masked token; the NELBO is the loss whose weight is 1 everywhere."""

AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="RECIPE",
        help="Print the curves of both recipes and say whether they agree. --set does not "
        "change this one.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    recipe: RecipeArgument,
    against: AgainstOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a recipe with every default filled in; the output is a recipe that runs identically.

    Below it, as comments: the two curves that schedule, time sampler and weighting induce.
    """
    from mdmkit.plugins import load_catalogue
    from mdmkit.recipe import dump_recipe, load_recipe, recipe_toml

    catalogue = load_catalogue()
    loaded = load_recipe(recipe, overrides or (), catalogue=catalogue)
    if against is not None:
        other = load_recipe(against, catalogue=catalogue)
        names = (" --set ".join([recipe, *(overrides or ())]), against)
        plain = (dump_recipe(loaded, catalogue), dump_recipe(other, catalogue))
        printed = _print_comparison_json if as_json else _print_comparison
        printed(names, (loaded, other), plain)
    elif as_json:
        print_json({"recipe": dump_recipe(loaded, catalogue), **_curves_json(loaded)})
    else:
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
    from mdmkit.report.curves import why_no_curves

    reason = why_no_curves(recipe)
    if reason is not None:
        return [f"No curves of mask ratio and weight: {reason}."]
    return [*_EXPLANATION.splitlines(), *_curves_of(recipe)]


def _curves_of(recipe: Recipe) -> list[str]:
    from mdmkit.report.curve_text import training_lines
    from mdmkit.report.curves import curves_over_training

    return training_lines(curves_over_training(recipe))


def _print_comparison_json(
    names: tuple[str, str], recipes: tuple[Recipe, Recipe], plain: tuple[Plain, Plain]
) -> None:
    comparison = _comparison(recipes)
    print_json(
        {
            "recipes": [
                {"name": name, "recipe": resolved, **_curves_json(recipe)}
                for name, recipe, resolved in zip(names, recipes, plain, strict=True)
            ],
            "comparison": None if comparison is None else attrs.asdict(comparison),
        }
    )


def _print_comparison(
    names: tuple[str, str], recipes: tuple[Recipe, Recipe], plain: tuple[Plain, Plain]
) -> None:
    """The keys that differ, the curves of both, and whether they agree."""
    from mdmkit.recipe import differing_keys
    from mdmkit.report.curve_text import comparison_lines
    from mdmkit.report.curves import why_no_curves

    typer.echo(f"From {names[0]} to {names[1]}:")
    for key in differing_keys(*plain) or ["no difference"]:
        typer.echo(f"  {key}")
    for name, recipe in zip(names, recipes, strict=True):
        typer.echo(f"\nCurves of {name}:")
        reason = why_no_curves(recipe)
        for line in _curves_of(recipe)[1:] if reason is None else [f"none: {reason}"]:
            typer.echo(line)
    comparison = _comparison(recipes)
    typer.echo("\nDo they agree?")
    no_answer = ["This cannot be said: not both have curves."]
    for line in no_answer if comparison is None else comparison_lines(comparison):
        typer.echo(line)


def _comparison(recipes: tuple[Recipe, Recipe]) -> Comparison | None:
    from mdmkit.report.agreement import compare_curves
    from mdmkit.report.curves import why_no_curves

    if any(why_no_curves(recipe) is not None for recipe in recipes):
        return None
    return compare_curves(*recipes)
