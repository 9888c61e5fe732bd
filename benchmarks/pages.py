"""The tables of pages in ``docs/`` that are made from committed results alone.

    python benchmarks/pages.py

Whatever stands between two markers of a page is replaced.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mdmkit.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [
    ROOT / "docs" / name
    for name in (
        "performance.md",
        "generation_quality.md",
        "frontier.md",
        "samplers.md",
        "sampling.md",
    )
]
_PARTS = ("blocks", "attention", "head", "optimizer", "rest")
MARKED = re.compile(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", re.DOTALL)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    names = header.split(" | ")
    lines = [f"| {header} |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def masked_head() -> str:
    """Ways to the loss."""
    found = read("masked_head")
    names = {
        "all": "logits of all positions",
        "masked": "of masked ones, kept",
        "recomputed": "of masked ones, in chunks made again",
        "fused": "`linear_cross_entropy`, chunked",
        "chunks": "**ours**",
    }
    rows = []
    for way, name in names.items():
        row: list[object] = [name]
        for precision in ("fp32", "bf16"):
            entry = found[precision]["ways"].get(way)
            row += ["", ""] if entry is None else [
                f"{entry['seconds']:.2f} ({entry['fastest']:.2f} to {entry['slowest']:.2f})",
                f"{entry['peak_mb']:,.0f}",
            ]  # fmt: skip
        rows.append(row)
    return table("way | fp32, s | MiB | bf16, s | MiB", rows)


def chunk_sizes() -> str:
    """Logits at once."""
    found = read("masked_head")["logits_at_once"]
    rows = []
    for size, entry in found["fp32"].items():
        other = found["bf16"][size]
        cells = [size]
        for part in (entry, other):
            cells += [f"{part['seconds']:.2f}", f"{part['peak_mb']:,.0f}"]
        rows.append(cells)
    return table("logits at once | fp32, s | MiB | bf16, s | MiB", rows)


def mdlm_speed() -> str:
    """A step of MDLM's code and one of ours."""
    found = read("mdlm_speed")
    rows = [
        (
            name,
            f"{entry['seconds']:.2f} ({entry['fastest']:.2f} to {entry['slowest']:.2f})",
            f"{entry['tokens_per_second']:,.0f}",
            f"{entry['peak_mb']:,.0f}",
        )
        for name, entry in found["variants"].items()
    ]
    return table("code | s a step | tokens/s | peak MiB", rows)


def checkpoint_stall() -> str:
    """How long a save holds up the loop."""
    rows = []
    for entry in read("checkpoint_stall")["saves"]:
        held, whole = sorted(entry["held_seconds"]), sorted(entry["whole_seconds"])
        rows.append(
            (
                entry["checkpoints_in_flight"],
                f"{statistics.median(held):.2f} ({held[0]:.2f} to {held[-1]:.2f})",
                f"{statistics.median(whole):.2f} ({whole[0]:.2f} to {whole[-1]:.2f})",
            )
        )
    return table("checkpoints_in_flight | the loop waits, s | until it is whole, s", rows)


def growth() -> str:
    """Time of a step and peak memory as one size grows."""
    found = read("growth_cpu")
    centre, sizes = found["centre"], found["sizes"]
    names = {"length": "L", "vocab_size": "V", "width": "width", "rows": "rows"}
    rows = []
    for key, name in names.items():
        others = [k for k in names if k != key]
        along = [e for e in sizes if all(e[k] == centre[k] for k in others)]
        for size in sorted({e[key] for e in along}):
            cells = [f"{name} = {size:,}"]
            for denoiser in ("dit", "transformer"):
                (entry,) = (e for e in along if e[key] == size and e["denoiser"] == denoiser)
                cells += [
                    f"{entry['cpu_seconds'] * 1e3:,.0f}", f"{entry['peak_bytes'] / 2**20:,.0f}"
                ]  # fmt: skip
            rows.append(cells)
    return table("size | `dit`, ms | MiB | `transformer`, ms | MiB", rows)


def generation_curve() -> str:
    """Judged text against training steps."""
    rows = read("generation_curve")["summary"]
    steps = sorted({row["step"] for row in rows})

    def cell(row: dict[str, Any], name: str) -> str:
        found = row[name]
        error = "" if found["stderr"] is None else f" ± {found['stderr']:.3f}"
        return f"{found['mean']:.3f}{error}"

    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = {row["step"]: row for row in rows if row["method"] == method}
        for name, title in (
            ("nelbo_per_token", "NELBO" if method != "ar" else "NLL"),
            ("generative_nll", "judge's NLL"),
            ("unigram_entropy", "entropy"),
        ):
            lines.append((f"{method}: {title}", *(cell(own[step], name) for step in steps)))
    return table(" | ".join(["steps", *map(str, steps)]), lines)


def plus_minus(number: dict[str, Any] | None, digits: int = 3) -> str:
    """A number with its error."""
    if number is None:
        return "not reached"
    return f"{number['value']:.{digits}f} ± {number['stderr']:.{digits}f}"


def matched_entropy() -> str:
    """Runs by curve at the entropy of real text."""
    found = read("generation_frontier")["matched_entropy"]
    (at_real,) = (entry for entry in found if entry["of"])
    runs = list(dict.fromkeys(entry["run"] for entry in at_real["curves"]))
    curves = list(dict.fromkeys(entry["curve"] for entry in at_real["curves"]))
    by_place = {(entry["run"], entry["curve"]): entry["nll"] for entry in at_real["curves"]}

    def cell(run: str, curve: str) -> str:
        return plus_minus(by_place[run, curve]) if (run, curve) in by_place else ""

    rows = [[curve, *(cell(run, curve) for run in runs)] for curve in curves]
    return table(" | ".join(["sampler", *(run.rpartition("-")[0] for run in runs)]), rows)


def few_steps() -> str:
    """The error of few steps, predicted and judged, both over the most steps."""
    found = read("generation_frontier")["few_steps"]
    last = {e["run"]: e["predicted_bits"] for e in found if e["steps"] == e["most_steps"]}

    def over(entry: dict[str, Any]) -> dict[str, float]:
        one, other = entry["predicted_bits"], last[entry["run"]]
        return {
            "value": one["value"] - other["value"],
            "stderr": math.hypot(one["stderr"], other["stderr"]),
        }

    rows = [
        (
            entry["run"].rpartition("-")[0],
            entry["steps"],
            plus_minus(entry["predicted_bits"], 4),
            plus_minus(over(entry), 4) if entry["steps"] < entry["most_steps"] else "0",
            plus_minus(entry["judged_bits"]) if entry["steps"] < entry["most_steps"] else "0",
        )
        for entry in found
    ]
    return table("run | T | predicted | predicted, over T = 128 | judged, over T = 128", rows)


def temperatures() -> str:
    """What a lower temperature does to text, and real text."""
    found = read("temperatures")
    names = (
        ("generative_perplexity", 1),
        ("generative_bits_per_byte", 3),
        ("unigram_entropy", 3),
        ("rep_3", 4),
        ("distinct_2", 3),
    )
    texts = sorted(found["texts"], key=lambda text: -text["varied"]["temperature"])
    rows = [(f"{text['varied']['temperature']:g}", text["numbers"]) for text in texts]
    (real,) = found["real"].values()
    return table(
        " | ".join(["temperature", *(f"`{name}`" for name, _ in names)]),
        [
            (label, *(plus_minus(numbers[name], digits) for name, digits in names))
            for label, numbers in [*rows, ("real text", real)]
        ],
    )


def gap_lengths() -> str:
    """How well each score finds the length of a gap."""
    found = read("gap_lengths")["temperatures"]
    kinds = {"exact": (2, ""), "distance": (1, ""), "bias": (1, "+")}
    header = ["score", *(f"{kind}, T = {t}" for kind in kinds for t in found)]
    rows = [
        [
            score,
            *(
                f"{found[t][score][kind]['value']:{sign}.{digits}f}"
                for kind, (digits, sign) in kinds.items()
                for t in found
            ),
        ]
        for score in next(iter(found.values()))
    ]
    sizes = range(2, 10)
    apart = statistics.fmean(abs(one - other) for one in sizes for other in sizes)
    guess = {"exact": f"{1 / len(sizes):.2f}", "distance": f"{apart:.1f}", "bias": "0.0"}
    rows.append(["guessing", *(guess[kind] for kind in kinds for _ in found)])
    return table(" | ".join(header), rows)


def sampling() -> str:
    """Speed and calls of samplers."""
    rows = []
    for entry in [one for part in read("sampling")["parts"] for one in part["results"]]:
        options = ", ".join(
            f"{key} = {json.dumps(value) if not isinstance(value, dict) else value['use']}"
            for key, value in entry["sampler"].items()
            if key != "use"
        )
        rows.append(
            (
                entry["network"],
                f"`{entry['sampler']['use']}`",
                options,
                entry["network_evaluations"],
                f"{entry['rows_shown']:,}",
                f"{entry['tokens_per_second']:,.0f}",
            )
        )
    return table("network | sampler | options | calls | rows shown | tokens/s", rows)


def gpu() -> str:
    """Two networks on one GPU."""
    rows = []
    for name, file in (("DiT-small", "bench_dit_small_h200_unaligned"), ("1.1B", "bench_1b_h200")):
        found = read(file)
        millions = found["sizes"]["parameters"] / 1e6
        parts = {part["name"]: part["measured"] for part in found["roofline"]}
        step = found["step"]["median"]
        rows.append(
            (
                f"{name}, {millions:,.0f} M",
                f"{step * 1e3:.0f}",
                f"{found['tokens_per_second']:,.0f}",
                f"{found['utilisation']['model']:.1%}",
                f"{found['utilisation']['hardware']:.1%}",
                f"{found['memory'][0]['peak'] / 1e9:.1f}",
                *(f"{parts[part] / step:.0%}" for part in _PARTS),
            )
        )
    return table(
        " | ".join(["network", "ms a step", "tokens/s", "MFU", "HFU", "peak GB", *_PARTS]), rows
    )


TABLES: dict[str, Callable[[], str]] = {
    "gpu": gpu,
    "masked_head": masked_head,
    "chunk_sizes": chunk_sizes,
    "mdlm_speed": mdlm_speed,
    "checkpoint_stall": checkpoint_stall,
    "growth": growth,
    "generation_curve": generation_curve,
    "gap_lengths": gap_lengths,
    "temperatures": temperatures,
    "matched_entropy": matched_entropy,
    "few_steps": few_steps,
    "sampling": sampling,
}


def filled(page: str) -> str:
    """The page with its tables made anew."""
    return MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", page)


if __name__ == "__main__":
    for place in PAGES:
        write_atomic(place, filled(place.read_text(encoding="utf-8")))
