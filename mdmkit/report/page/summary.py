"""The head of a report: which runs, and the numbers that one looks for first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from mdmkit.report.numbers import duration, rate, with_error
from mdmkit.report.page.figure_data import finite
from mdmkit.report.page.markup import Markup, joined, paragraph, table, tag
from mdmkit.report.page.reading import ReportedRun
from mdmkit.runs.status import STATES
from mdmkit.values import Measurement

NELBO, ERROR = "val/nelbo_per_token", "val/nelbo_per_token_stderr"
_AS_CARDS = 4
_UNKNOWN = "-"
_NO_WEIGHTS = "No parameters are counted where no weights have been exported yet."


@frozen
class Point:
    """A validation: the step, and nats per token with their standard error."""

    step: int
    nelbo: float
    stderr: float


def validation_points(run: ReportedRun) -> list[Point]:
    """The validations of a run by rising step, from its metrics."""
    nelbo, error = ({s: finite(v) for s, v in _by_step(run, name)} for name in (NELBO, ERROR))
    return [
        Point(step, value, error.get(step) or 0.0)
        for step, value in sorted(nelbo.items())
        if value is not None
    ]


def _by_step(run: ReportedRun, name: str) -> Iterator[tuple[int, float]]:
    return zip(run.metrics[name].steps, run.metrics[name].values, strict=True)


def parameters(run: ReportedRun) -> int | None:
    """How many numbers its exported weights have; None where there are none."""
    from safetensors import SafetensorError, safe_open

    path = run.directory / "model.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            names = file.keys()
            return sum(int(math.prod(file.get_slice(name).get_shape())) for name in names)
    except (OSError, SafetensorError):
        return None


def summary(runs: Sequence[ReportedRun]) -> Markup:
    """A sentence, and the key numbers of each run."""
    if len(runs) > _AS_CARDS:
        return joined(_sentence(runs), _as_table(runs))
    return joined(
        _sentence(runs),
        tag("div", *map(_card, runs), class_="cards" if len(runs) > 1 else "cards single"),
        _unknown(runs),
    )


def _sentence(runs: Sequence[ReportedRun]) -> Markup:
    corpora = {_use(run.value("data", "corpus")) for run in runs}
    kinds = {_use(run.recipe.get("objective")) for run in runs}
    many = "One run" if len(runs) == 1 else f"{len(runs)} runs"
    trained = ", ".join(sorted(str(kind).replace("_", " ") for kind in kinds if kind))
    text = f"{many} of {trained}" if trained else many
    known = sorted(str(corpus) for corpus in corpora if corpus)
    if known:
        text += f" on {', '.join(known)}"
    text += f". {_standing(runs)}"
    nelbo = "The NELBO is an upper bound on −log p, in nats per token: lower is better."
    return paragraph(f"{text} {nelbo}", class_="lead")


def _use(table: object) -> object:
    return table.get("use") if isinstance(table, Mapping) else None


def _standing(runs: Sequence[ReportedRun]) -> str:
    """What became of them, counted."""
    if len(runs) == 1:
        return f"It is {runs[0].status.words}."
    states = [run.status.state for run in runs]
    told = [f"{states.count(state)} {state}" for state in STATES if state in states]
    return f"Every run is {states[0]}." if len(told) == 1 else f"{', '.join(told)}."


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    yield "status", run.status.words
    if run.status.why is not None:
        yield "why", run.status.why
    points = validation_points(run)
    if points:
        best = min(points, key=lambda point: point.nelbo)
        if best.nelbo < points[-1].nelbo:
            yield "best", f"{_nelbo(best)} at step {best.step:,}"
    if run.status.steps is None and run.step:
        yield "steps", f"{run.step:,}"
    costs = {axis: values[0] for axis, values in run.across([run.step]).items()}
    if "tokens" in costs:
        yield "tokens", rate(costs["tokens"])
    if "seconds" in costs:
        yield "time", duration(costs["seconds"])
    count = parameters(run)
    yield "parameters", _UNKNOWN if count is None else rate(count)
    yield "seed", str(run.value("run", "seed") if run.recipe else "not known")


def _nelbo(point: Point) -> str:
    return with_error(Measurement(value=point.nelbo, stderr=point.stderr))


def _card(run: ReportedRun) -> Markup:
    points = validation_points(run)
    number = (
        tag(
            "p",
            tag("span", f"{points[-1].nelbo:.3f}", class_="big"),
            tag("span", f" ± {points[-1].stderr:.3f} nats per token", class_="unit"),
            class_="key",
        )
        if points
        else paragraph("no validation yet", class_="key none")
    )
    said = f"validation NELBO at step {points[-1].step:,}" if points else ""
    facts = [tag("div", tag("dt", name), tag("dd", value)) for name, value in _facts(run)]
    return tag(
        "article",
        tag("h3", swatch(run.number), run.label),
        number,
        paragraph(said, class_="of") if said else None,
        tag("dl", *facts),
        class_="card",
    )


def _as_table(runs: Sequence[ReportedRun]) -> Markup:
    rows = []
    names = list(dict.fromkeys(name for run in runs for name, _ in _facts(run) if name != "why"))
    for run in runs:
        points, facts = validation_points(run), dict(_facts(run))
        last = f"{_nelbo(points[-1])}" if points else "-"
        label = joined(swatch(run.number), run.label)
        rows.append([label, last, *(facts.get(name, "-") for name in names)])
    header = ["run", "validation NELBO, last", *names]
    why = [f"{run.label}: {run.status.why}" for run in runs if run.status.why is not None]
    return joined(
        table(header, rows, caption="The runs in short", whole=True),
        tag("ul", *(tag("li", words) for words in why), class_="notes") if why else None,
        _unknown(runs),
    )


def _unknown(runs: Sequence[ReportedRun]) -> Markup | None:
    """What a dash means, where there is one."""
    if all(parameters(run) is not None for run in runs):
        return None
    return paragraph(_NO_WEIGHTS, class_="note")


def swatch(number: int) -> Markup:
    """The colour of a run, beside its name."""
    return tag("span", class_=f"swatch colour-{number % 7}", aria_hidden="true")
