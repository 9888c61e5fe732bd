"""Generated text, and a player that shows how it was unmasked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.report.page.figure_data import thinned
from mdmkit.report.page.markup import Markup, data, details, joined, missing, paragraph, tag
from mdmkit.report.page.reading import ReportedRun

_MOST_LOGS, _MOST_TEXTS = 6, 4
_LARGEST = 2_000_000
"""Characters of all samples together; what is beyond is left out, and said."""
_SPEEDS = {"1": "slow", "4": "normal", "12": "fast", "40": "very fast"}
"""States a second."""


def samples(runs: Sequence[ReportedRun]) -> Markup:
    """The player, and the texts for where no script runs."""
    found: list[dict[str, Any]] = []
    left, cut = _LARGEST, 0
    for sample in (one for run in runs for one in _of_run(run)):
        size = len(json.dumps(sample["states"])) + len(sample["text"])
        if size > left:
            cut += 1
            continue
        left -= size
        found.append(sample)
    if not found:
        what = "These runs have kept no samples; a run keeps some at its end."
        return missing(what, "mdmkit run recipe.toml")
    parts = [_player(found), _texts(found)]
    if cut:
        left_out = f"{cut} samples are left out to keep the page small."
        parts.append(paragraph(left_out, class_="note"))
    return joined(*parts, data(found, id="samples-data"))


def _of_run(run: ReportedRun) -> Iterator[dict[str, Any]]:
    """Those of the last step first, so that a cut takes the earlier ones."""
    steps = sorted(run.samples, reverse=True)
    for step in (steps[place] for place in thinned(len(steps), _MOST_LOGS)):
        logged = run.samples[step]
        how = f"{logged.sampler.get('use', 'sampler')}, seed {logged.seed}"
        for number, sample in enumerate(logged.samples[:_MOST_TEXTS], start=1):
            yield {
                "label": f"{run.label}, step {step:,}, sample {number}",
                "made": f"{how}, averaged weights" if logged.ema else how,
                "text": sample.text,
                "length": sample.length,
                "calls": sample.network_evaluations,
                "states": sample.states,
            }


def _player(found: Sequence[Mapping[str, Any]]) -> Markup:
    options = [tag("option", s["label"], value=n) for n, s in enumerate(found)]
    speeds = [
        tag("option", words, value=rate, selected=words == "normal")
        for rate, words in _SPEEDS.items()
    ]
    last = len(found[0]["states"])
    buttons = [
        tag("button", symbol, type="button", data_player=name, aria_label=words)
        for name, symbol, words in (
            ("start", "|◀", "To the start"),
            ("back", "◀", "A state back"),
            ("play", "Play", "Play"),
            ("forward", "▶", "A state forward"),
            ("end", "▶|", "To the end"),
        )
    ]
    chosen = tag(
        "span",
        tag("label", "Sample", for_="player-sample"),
        tag("select", *options, id="player-sample", data_player="sample", autocomplete="off"),
        class_="choice",
    )
    slider = tag(
        "span",
        tag("label", "State", for_="player-state"),
        tag("input", type="range", id="player-state", min=0, max=last, step=1, value=last,
            data_player="state", autocomplete="off"),
        class_="choice slider wide",
    )  # fmt: skip
    speed = tag(
        "span",
        tag("label", "Speed", for_="player-speed"),
        tag("select", *speeds, id="player-speed", data_player="speed", autocomplete="off"),
        class_="choice",
    )
    canvas = tag(
        "div", class_="canvas", id="player-canvas", tabindex="0", role="group",
        aria_label="The text as it is unmasked", aria_describedby="player-keys",
    )  # fmt: skip
    keys = tag(
        "p",
        "Keys, with the text in focus: ← and → for a state back and forward, Home and End, space "
        "to play or pause. Blocks are masks; marked tokens are new in this state.",
        class_="note",
        id="player-keys",
    )
    return tag(
        "div",
        tag("div", chosen, speed, class_="controls"),
        canvas,
        tag("p", class_="status", id="player-status", aria_live="polite"),
        tag("div", tag("div", *buttons, class_="buttons"), slider, class_="controls"),
        keys,
        class_="player live",
        id="player",
    )


def _texts(found: Sequence[Mapping[str, Any]]) -> Markup:
    told = [
        joined(
            paragraph(f"{sample['label']} ({sample['made']})", class_="of"),
            tag("pre", sample["text"], class_="text", tabindex="0"),
        )
        for sample in found
    ]
    return details("The finished texts", *told)
