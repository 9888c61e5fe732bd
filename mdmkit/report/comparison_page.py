"""A comparison as one page of HTML that needs no network, by plotly."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mdmkit.comparison.results import Comparison, MethodResult
from mdmkit.report.comparison import print_comparison
from mdmkit.report.comparison_figure import UNIT, view
from mdmkit.report.figure_style import colour

_AXES = {
    "steps": "optimizer steps",
    "tokens": "tokens seen",
    "flops": "training FLOPs",
    "seconds": "seconds",
}
_DASHES = ("solid", "dash", "dot", "dashdot")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 1.5rem; color: #222; }}
pre {{ overflow-x: auto; line-height: 1.35; }}
</style>
</head>
<body>
<h1>{title}</h1>
{figure}
<pre>{tables}</pre>
</body>
</html>
"""


def page(found: Comparison) -> str:
    """The whole page: curves whose x axis can be switched, and the tables below."""
    names = ", ".join(method.label for method in found.methods)
    figure = _figure(found).to_html(
        full_html=False, include_plotlyjs=True, div_id="curves", config={"responsive": True}
    )
    held = io.StringIO()
    print_comparison(Console(file=held, width=200, force_terminal=False), found)
    return _PAGE.format(
        title=html.escape(f"mdmkit compare: {names}"),
        figure=figure,
        tables=html.escape(held.getvalue()),
    )


def _figure(found: Comparison) -> Any:
    from plotly import graph_objects

    axes = [axis for axis in _AXES if all(axis in method.curve.costs for method in found.methods)]
    figure = graph_objects.Figure()
    across: dict[str, list[Sequence[float]]] = {axis: [] for axis in axes}  # x of each trace
    for number, method in enumerate(found.methods):
        for trace, costs in _traces(number, method, seeds=not found.settings["cooled"]):
            figure.add_trace(graph_objects.Scatter(x=costs["steps"], **trace))
            for axis in axes:
                across[axis].append(costs.get(axis, ()))
    if found.plateau is not None:
        figure.add_hline(
            y=found.plateau.nelbo, line={"dash": "dash", "color": "grey", "width": 1},
            annotation_text="plateau", annotation_position="top right",
        )  # fmt: skip
    base = next(method for method in found.methods if method.label == found.baseline)
    figure.add_hline(
        y=base.curve.smooth[-1], line={"dash": "dot", "color": "grey", "width": 1},
        annotation_text=html.escape(f"end of {found.baseline}"), annotation_position="top right",
    )  # fmt: skip
    figure.update_layout(
        template="simple_white", height=620, hovermode="closest",
        xaxis={"title": {"text": _AXES["steps"]}, "showgrid": True,
               "type": "log" if found.settings["cooled"] else "linear"},
        yaxis={"title": {"text": UNIT}, "range": list(view(found)), "showgrid": True},
        updatemenus=[_axis_buttons(axes, across), _scale_buttons(found.settings["cooled"])],
        margin={"t": 70},
    )  # fmt: skip
    return figure


def _traces(
    number: int, method: MethodResult, *, seeds: bool
) -> list[tuple[dict[str, Any], Mapping[str, Sequence[float]]]]:
    """The band, the seeds and the mean of a method, each with its costs by axis."""
    curve, name = method.curve, html.escape(method.label)
    own, dash = colour(number), _DASHES[number // 7 % len(_DASHES)]
    there_and_back = {axis: [*x, *reversed(x)] for axis, x in curve.costs.items()}
    band = {
        "y": [*curve.low, *reversed(curve.high)], "fill": "toself", "mode": "lines",
        "line": {"width": 0}, "fillcolor": own, "opacity": 0.15, "hoverinfo": "skip",
        "legendgroup": name, "showlegend": False,
    }  # fmt: skip
    mean = {
        "y": list(curve.nelbo), "mode": "lines+markers", "name": name, "legendgroup": name,
        "line": {"color": own, "width": 2.5, "dash": dash}, "marker": {"size": 5},
        "customdata": [[low, high, peak] for low, high, peak in
                       zip(curve.low, curve.high, curve.peaks, strict=True)],
        "hovertemplate": "%{y:.4f} [%{customdata[0]:.4f}, %{customdata[1]:.4f}]"
                         "<br>at %{x:.4s}, peak %{customdata[2]:g}",
    }  # fmt: skip
    thin = [
        (
            {
                "y": list(run.nelbo), "mode": "lines", "legendgroup": name, "showlegend": False,
                "name": f"{name}, seed {run.seed}", "opacity": 0.5,
                "line": {"color": own, "width": 1, "dash": dash},
                "hovertemplate": "%{y:.4f} at %{x:.4s}",
            },
            run.costs,
        )
        for run in method.runs
        if seeds and len(method.runs) > 1
    ]  # fmt: skip
    return [(band, there_and_back), *thin, (mean, curve.costs)]


def _axis_buttons(axes: Sequence[str], across: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {
        "type": "buttons", "direction": "right", "x": 0, "y": 1.12, "xanchor": "left",
        "buttons": [
            {"label": "FLOPs" if axis == "flops" else axis, "method": "update",
             "args": [{"x": [list(x) for x in across[axis]]},
                      {"xaxis.title.text": _AXES[axis], "xaxis.autorange": True}]}
            for axis in axes
        ],
    }  # fmt: skip


def _scale_buttons(log_first: bool) -> dict[str, Any]:
    return {
        "type": "buttons", "direction": "right", "x": 0.42, "y": 1.12, "xanchor": "left",
        "active": 1 if log_first else 0,
        "buttons": [
            {"label": label, "method": "relayout",
             "args": [{"xaxis.type": scale, "xaxis.autorange": True}]}
            for label, scale in (("linear", "linear"), ("logarithmic", "log"))
        ],
    }  # fmt: skip
