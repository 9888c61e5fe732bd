"""How fast the runs went, and on what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.report.numbers import rate, size
from mdmkit.report.page.figure_data import View, finite
from mdmkit.report.page.markup import Content, Markup, joined, missing, table, tag
from mdmkit.report.page.measurements import named_runs
from mdmkit.report.page.plots import Plot
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.page.training_curves import SPEED, axes_of, metric_lines


def system(runs: Sequence[ReportedRun]) -> Markup:
    """Speed over time, what a bench measured, versions and devices."""
    lines = metric_lines(runs, SPEED)
    parts: list[Content] = []
    if lines:
        known = axes_of(lines)
        axes: dict[str, str] = {a: known[a] for a in ("seconds", "steps") if a in known}
        top = max(value for line in lines for value in line.y if value is not None)
        plot = Plot(
            name="speed",
            title="Tokens per second",
            axes=axes,
            views=[
                View(label="", y_label="tokens per second", series=lines, low=0, high=1.05 * top)
            ],
            note="As logged: of training alone, without validations and checkpoints.",
        )
        parts.append(plot.html())
    else:
        parts.append(missing("No speed has been logged yet.", "mdmkit run recipe.toml"))
    if not any(run.bench for run in runs):
        place = runs[0].directory
        command = f"mdmkit bench {place.name}/recipe.toml --out {place.name}/bench.json"
        what = "Utilisation (MFU) and memory were not measured."
        parts.append(missing(what, command))
    told = [dict(_facts(run)) for run in runs]
    names = list(dict.fromkeys(name for facts in told for name in facts))
    if names:
        rows = [[name, *(facts.get(name, "-") for facts in told)] for name in names]
        caption = "Speed, memory and device"
        header = ["", *named_runs(runs)]
        parts += [tag("h3", caption), table(header, rows, caption=caption, words=len(header))]
    return joined(*parts)


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    speeds = sorted(v for v in run.metrics[SPEED].values if finite(v) is not None)
    if speeds:
        yield "tokens per second, median of the log", rate(speeds[len(speeds) // 2])
    if isinstance(run.bench, Mapping):
        yield from _bench(run.bench)
    if run.manifest is not None and "ranks" in run.manifest:
        yield "processes", str(run.manifest["ranks"])
    for name in ("device", "threads", "cpu_capability", "platform"):
        if name in run.environment:
            yield name.replace("_", " "), str(run.environment[name])


def _bench(bench: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What ``mdmkit bench --out`` wrote, as far as it has what we look for."""
    speed = finite(bench.get("tokens_per_second"))
    if speed is not None:
        yield "tokens per second, bench", rate(speed)
    used = bench.get("utilisation")
    for key, words in (("model", "model"), ("hardware", "hardware")):
        share = finite(used.get(key)) if isinstance(used, Mapping) else None
        if share is not None:
            yield f"{words} FLOP utilisation, bench", f"{share:.1%} of the measured peak"
    memory = bench.get("memory")
    peaks = [
        peak
        for one in (memory if isinstance(memory, list) else ())
        if isinstance(one, Mapping) and (peak := finite(one.get("peak"))) is not None
    ]
    if peaks:
        yield "peak memory, bench", size(int(max(peaks)))
    notes = bench.get("notes")
    if isinstance(notes, list) and notes:
        yield "notes of the bench", " ".join(map(str, notes))
