"""What to type to get the same runs and the same report, and what they were made of."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from mdmkit.report.page.markup import (
    Content,
    Markup,
    copied,
    joined,
    paragraph,
    table,
    tag,
)
from mdmkit.report.page.measurements import named_runs
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.tables import one_line


def reproduce(runs: Sequence[ReportedRun], out: str, here: Mapping[str, str]) -> Markup:
    """Commands, versions, seeds and hashes.

    Args:
        runs: of the report.
        out: the report's file name.
        here: versions that made the report.
    """
    commands = [line for run in runs for line in _commands(run)]
    names = " ".join(shlex.quote(run.directory.name) for run in runs)
    commands += ["", f"mdmkit report {names} --out {shlex.quote(out)}"]
    text = "\n".join(commands).strip() + "\n"
    facts = [dict(_facts(run)) for run in runs]
    keys = list(dict.fromkeys(key for told in facts for key in told))
    rows: list[Sequence[Content]] = [
        [key, *(tag("code", told.get(key, "-")) for told in facts)] for key in keys
    ]
    header = ["", *named_runs(runs)]
    made = ", ".join(f"{name} {version}" for name, version in here.items())
    return joined(
        paragraph(
            "Save each recipe of this page under the name below (“The recipe” has buttons that "
            "copy them), then:"
        ),
        copied(text, of="the commands"),
        paragraph(
            "Losses repeat to rounding with the same recipe, text and seed, and bitwise where "
            "torch, threads and the CPU's capability agree, too."
        ),
        table(header, rows, caption="Seeds, versions and hashes", words=len(header)),
        paragraph(f"This page was made by {made}.", class_="note"),
    )


def _commands(run: ReportedRun) -> Iterator[str]:
    file = shlex.quote(f"{run.directory.name}.toml")
    source = "" if run.branch is None else f"{run.branch['from']}@{run.branch['step']}"
    yield f"mdmkit run {file}" + (f" --branch-from {shlex.quote(source)}" if source else "")
    place = shlex.quote(run.directory.name)
    if run.analyses:
        yield f"mdmkit analyze {place}"
    for record in run.suites.values():
        yield f"mdmkit eval {place} --suite {shlex.quote(str(record.suite.get('name')))}"


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    yield "run", one_line(run.directory.name)
    yield "seed", str(run.value("run", "seed"))
    if run.recipe_hash:
        yield "recipe hash", run.recipe_hash
    for key in ("mdmkit", "torch", "python", "device", "threads", "cpu_capability"):
        if key in run.environment:
            yield key.replace("_", " "), str(run.environment[key])
    told = run.validations[-1].provenance.get("data") if run.validations else None
    for key in ("corpus_fingerprint", "tokenizer_fingerprint"):
        if isinstance(told, Mapping) and key in told:
            yield f"{key.replace('_', ' ')} (validation)", str(told[key])
    if run.manifest is not None:
        yield "last checkpoint", f"step {run.manifest.get('step')}"
        yield from _hashes(run.manifest)


def _hashes(manifest: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    files = manifest.get("files")
    for name, told in files.items() if isinstance(files, Mapping) else ():
        if isinstance(told, Mapping) and "sha256" in told:
            yield f"sha256 of {name}", str(told["sha256"])
