from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mdmkit.comparison.difference import compare_sums
from mdmkit.report.page import make_report, write_report
from mdmkit.report.page.by_mask_ratio import by_mask_ratio
from mdmkit.report.page.figure_data import Heat, Series, View
from mdmkit.report.page.plots import Plot
from mdmkit.report.page.recipes import chosen_words
from mdmkit.validation_log import read_validation, write_validation

from ..comparison.synthetic import DOCUMENTS, PER_DOCUMENT, curve, make_tokenizer, write_run
from .hostile import BAD, IMAGE, texts, write_hostile

pytest.importorskip("plotly", reason="figures are drawn by plotly's script")
EMPTY = {"meta", "input", "br", "wbr", "link", "col"}
SECTIONS = ["summary", "recipe", "curves", "comparison", "mask-ratio", "analyses", "evaluations",
            "samples", "system", "reproduce"]  # fmt: skip


class Page(HTMLParser):
    """A page taken apart: every element with its attributes and what is inside of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None], list[int]]] = []
        self.inside: dict[int, str] = {}
        self.feed(text)
        self.close()
        assert self.open == [], "not every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        number = len(self.elements)
        self.elements.append((tag, dict(attrs), list(self.open)))
        self.inside[number] = ""
        if tag not in EMPTY:
            self.open.append(number)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag, f"{tag} closes something else"

    def handle_data(self, data: str) -> None:
        for number in self.open:
            self.inside[number] += data

    def all(self, tag: str, within: int | None = None) -> list[tuple[int, dict[str, str | None]]]:
        return [
            (number, attributes)
            for number, (name, attributes, above) in enumerate(self.elements)
            if name == tag and (within is None or within in above)
        ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def two(hostile: list[Path]) -> str:
    report = make_report(hostile)
    assert all("no FLOPs" in problem for problem in report.problems)  # no recipe has such a name
    return report.html


@pytest.fixture(scope="module")
def page(two: str) -> Page:
    return Page(two)


def section_ids(page: Page) -> list[str | None]:
    return [attributes.get("id") for _, attributes in page.all("section")]


def test_nothing_is_loaded_from_anywhere(page):
    for name, attributes, _ in page.elements:
        assert name not in ("link", "iframe", "img", "object", "embed", "base")
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(key, "#").startswith("#"), (name, attributes)
    css = files("mdmkit.report.page").joinpath("page.css").read_text()
    assert "url(" not in css
    assert "@import" not in css


def test_what_is_hostile_is_text(page):
    names = [name for name, _, _ in page.elements]
    figures = sum(name == "figure" for name in names)
    assert names.count("script") == figures + 5  # data of figures and samples, library, three
    for name, attributes, _ in page.elements:
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)
    said = page.inside[0]
    for place in (f"1{BAD}", f"own {BAD}", f"{BAD} word"):
        assert place in said.replace("\\u2028", "\u2028").replace("\\u2029", "\u2029")
    data = [json.loads(page.inside[n]) for n, a in page.all("script")
            if a.get("type") == "application/json"]  # fmt: skip
    assert BAD in {text for value in data for text in texts(value)}
    assert f"train/{IMAGE}" in {text for value in data for text in texts(value)}


def test_the_policy_allows_the_very_scripts_of_the_page(page):
    from plotly.offline import get_plotlyjs

    (policy,) = (a["content"] for _, a in page.all("meta") if a.get("http-equiv"))
    executed = [page.inside[n] for n, a in page.all("script") if "type" not in a]
    assert len(executed) == 3
    for text in [*executed, get_plotlyjs()]:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert "unsafe" not in directives["script-src"]


def test_it_can_be_read_without_seeing_it(page):
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.elements:
        for key in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(key, ids[0]) in ids
    levels = [int(name[1]) for name, _, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - level <= 1 for level, later in pairwise(levels))
    assert page.all("html")[0][1]["lang"] == "en"
    assert [len(page.all(name)) for name in ("main", "header", "nav")] == [1, 1, 1]
    first_link = page.all("a")[0][1]
    assert first_link["href"] == "#content"
    labelled = {a["for"] for _, a in page.all("label") if "for" in a}
    for number, attributes in [*page.all("input"), *page.all("select")]:
        above = [page.elements[n][0] for n in page.elements[number][2]]
        assert attributes.get("id") in labelled or "label" in above


def test_every_figure_says_in_words_and_numbers_what_it_shows(page):
    figures = page.all("figure")
    assert len(figures) >= 9
    for number, _ in figures:
        (plot,) = [a for _, a in page.all("div", number) if a.get("role") == "img"]
        assert len(plot["aria-label"] or "") > 40
        assert page.all("table", number)
        assert page.all("figcaption", number)


def test_sections_of_a_full_page(page):
    assert section_ids(page) == [SECTIONS[0], "problems", *SECTIONS[1:]]
    said = page.inside[0]
    assert "Speed-up over" in said
    assert "25.0% of the measured peak" in said
    assert "5.0 MB" in said
    assert "1.50 ± 0.10" in said
    assert "mdmkit report" in said


def test_a_single_run_has_no_comparison_and_every_axis(tmp_path):
    make_tokenizer(tmp_path)
    lines = [{"step": step, "val/nelbo_per_token": curve(step)} for step in (0, 50)]
    run = write_run(tmp_path, "one", tokenizer=tmp_path, steps=(0, 50), lines=lines)
    report = make_report([run])
    page = Page(report.html)
    assert report.problems == []
    assert section_ids(page) == [name for name in SECTIONS if name != "comparison"]
    (axes,) = [n for n, a in page.all("select") if a["id"] == "validation-axis"]
    assert [page.inside[n] for n, _ in page.all("option", axes)] == [
        "optimizer steps", "tokens seen", "training FLOPs", "seconds",
    ]  # fmt: skip


def test_a_run_with_next_to_nothing_says_what_is_missing(tmp_path):
    run = write_run(tmp_path, "bare", steps=())
    (run / "metrics.jsonl").unlink()
    report = make_report([run])
    said = Page(report.html).inside[0]
    assert report.problems == []
    for command in ("mdmkit analyze bare-00000001", "mdmkit eval bare-00000001 --zero-shot",
                    "mdmkit run recipe.toml", "mdmkit bench"):  # fmt: skip
        assert command in said
    assert "no validation yet" in said
    assert "It is interrupted at step 0 of 600." in said


def test_the_status_is_that_of_mdmkit_runs(tmp_path):
    failed, open_ended = (write_run(tmp_path, name, steps=(0, 600)) for name in ("bad", "open"))
    told = {"error": "OSError", "message": "disk <full>", "step": 600, "time": "2026-01-01"}
    (failed / "failure.json").write_text(json.dumps(told))
    said = Page(make_report([failed, open_ended]).html).inside[0]
    assert "1 interrupted, 1 failed." in said  # the last step is done, but nothing was exported
    assert "failed at step 600 of 600" in said
    assert "OSError: disk <full>" in said


def test_a_branch_is_made_again_from_where_it_began(tmp_path):
    run = write_run(tmp_path, "cool", steps=(0,))
    (run / "branch.json").write_text('{"from": "base run-01", "step": 50}')
    said = Page(make_report([run]).html).inside[0]
    assert "mdmkit run cool-00000001.toml --branch-from 'base run-01@50'" in said


def test_a_component_within_another_is_named_by_both():
    recipe = {"data": {"packing": {"use": "rearranged", "of": {"use": "packed"}}}}
    assert list(chosen_words(recipe)) == [("packing", "rearranged"), ("packing of", "packed")]


def test_the_table_of_many_runs_is_short(tmp_path):
    lines = [{"step": step, "val/nelbo_per_token": curve(step)} for step in (0, 600)]
    runs = [write_run(tmp_path, f"r{n}", steps=(), lines=lines) for n in range(5)]
    (runs[0] / "failure.json").write_text(
        json.dumps({"error": "E", "message": "why", "step": 1, "time": ""})
    )
    page = Page(make_report(runs).html)
    box = next(a for _, a in page.all("div") if a.get("aria-label") == "The runs in short")
    assert box["class"] == "scroll whole"
    header = [page.inside[n] for n, _ in page.all("th", page.all("table")[0][0])][:5]
    assert header == ["run", "validation NELBO, last", "status", "parameters", "seed"]
    for part in ("r0: E: why", "No parameters are counted where"):
        assert part in page.inside[0]


def test_a_name_can_neither_break_a_line_nor_turn_it(tmp_path):
    run = write_run(tmp_path, "r", steps=(), directory="a\n\u202eb")
    (run / "resolved.json").write_text("{}")
    page = Page(make_report([run]).html)
    assert page.inside[page.all("h1")[0][0]] == r"a\n\u202eb"


def test_damage_is_told_and_the_rest_is_shown(tmp_path):
    line = {"step": 7, "tokens": 7.0, "seconds": 1.0, "train/loss": 2.5}
    run = write_run(tmp_path, "torn", steps=(0, 50, 100), lines=[line])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1\nnonsense\n{"step": 120, "train/loss": 1.25}\n{"st')
    (run / "validation" / "step-00000050.safetensors").write_bytes(b"nothing")
    for folder, name in (("analysis", "a"), ("eval", "b"), ("samples", "step-00000100")):
        (run / folder).mkdir()
        (run / folder / f"{name}.json").write_text('{"steps": {}}')
    (run / "eval" / "c.json").write_text('{"kind": "mdmkit suite"}')
    report = make_report([run])
    page = Page(report.html)
    for part in ("metrics.jsonl", "step-00000050.safetensors", "a.json", "b.json", "c.json",
                 "step-00000100.json"):  # fmt: skip
        assert sum(part in problem for problem in report.problems) == 1, part
    assert section_ids(page)[1] == "problems"
    assert "line 5 is" in page.inside[0]
    assert "1.25" in page.inside[0]  # a line after the damage
    assert "Over training: torn" in page.inside[0]


def test_files_that_hold_something_else_do_no_harm(tmp_path):
    run = write_run(tmp_path, "odd", steps=(0, 50))
    (run / "resolved.json").write_text(
        '{"data": 5, "run": {"name": ["x"]}, "train": {"steps": "x"}}'
    )
    checkpoint = run / "checkpoints" / "step-00000050"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text('{"environment": 3, "files": {"a": 5}, "ranks": []}')
    (run / "bench.json").write_text('{"memory": 3, "notes": 5, "utilisation": []}')
    (run / "model.safetensors").write_bytes(b"x")
    (run / "metrics.jsonl").write_text('x\n{"step": 1, "train/loss": 1' + 400 * "0" + "}\n")
    report = make_report([run])
    assert len(report.problems) == 1  # the metrics
    assert "Loss by mask ratio" in Page(report.html).inside[0]


def test_runs_that_cannot_be_compared_are_still_shown(tmp_path):
    one = write_run(tmp_path, "one", steps=(0, 50))
    other = write_run(tmp_path, "other", steps=(0, 50), mask_shift=1,
                      overrides=["time_sampler.width=0.4"])  # fmt: skip
    report = make_report([one, other])
    (problem,) = [p for p in report.problems if "compar" in p]
    said = Page(report.html).inside[0]
    assert "the numbers of masked tokens are not the same" in said
    assert problem.startswith("no comparison: ")
    assert "Over training: other" in said


def test_one_odd_run_leaves_the_others_compared(tmp_path):
    bell = ["time_sampler.width=0.4"]
    one, twin = (write_run(tmp_path, n, steps=(0, 50, 100)) for n in ("one", "twin"))
    other = write_run(tmp_path, "other", steps=(0, 50, 100), overrides=bell)
    odd = write_run(tmp_path, "odd", steps=(0, 50), mask_shift=1)
    bare = write_run(tmp_path, "bare", steps=())
    report = make_report([odd, one, other, twin, bare])
    page = Page(report.html)
    (section,) = [n for n, a in page.all("section") if a.get("id") == "comparison"]
    said = page.inside[section]
    assert "Speed-up over one" in said
    assert "the numbers of masked tokens are not the same" in said
    assert "are the same seed of the same method" in said
    told = [p.split(": ")[1] for p in report.problems if p.startswith("left out of the comp")]
    assert sorted(told) == ["bare", "odd", "twin"]


def test_runs_that_were_validated_in_two_ways_are_two_groups(tmp_path):
    bell = ["time_sampler.width=0.4"]
    runs = [
        write_run(tmp_path, f"{name}{shift}", steps=(0, 50), mask_shift=shift, overrides=keys)
        for shift in (0, 1)
        for name, keys in (("one", ()), ("other", bell))
    ]
    said = Page(make_report(runs).html).inside[0]
    for part in ("Group 1 of 2: 2 runs", "Group 2 of 2: 2 runs", "over one0", "over one1"):
        assert part in said


def test_loss_by_mask_ratio_is_the_ratio_of_sums(tmp_path):
    rising = [0.02 * number for number in range(DOCUMENTS)]
    run = write_run(tmp_path, "r", by_document=rising, by_mask=lambda ratio: ratio, steps=(100,))
    found = by_mask_ratio(read_validation(run, 100), bins=5)
    table = read_validation(run, 100).table
    ratio = (table.masked / table.tokens).numpy()
    for number, one in enumerate(found):
        inside = (ratio > number / 5) & (ratio <= (number + 1) / 5)
        nats, tokens = ((part.numpy() * inside).reshape(DOCUMENTS, PER_DOCUMENT).sum(1)
                        for part in (table.nats, table.tokens))  # fmt: skip
        test = compare_sums("", nats[None], 0 * nats[None], tokens, paired=False, margin=0.1)
        assert one is not None
        assert one.loss == pytest.approx(test.value)
        assert one.stderr == pytest.approx(test.document_stderr)
        assert one.ratio == pytest.approx((number + 0.5) / 5)
    assert found[0].loss == pytest.approx(curve(100) + 0.15 + 0.11, abs=0.05)


def test_validations_without_masks_have_no_mask_ratio_and_that_is_said(tmp_path):
    masked = write_run(tmp_path, "masked", steps=(0,))
    in_any_order = write_run(tmp_path, "any", steps=(0,), exact=True)
    table = read_validation(in_any_order, 0).table
    write_validation(in_any_order, 0, table, {"exact": False})
    said = Page(make_report([masked, in_any_order]).html).inside[0]
    assert "Over training: masked" in said
    assert "Over training: any" not in said
    assert "Validated without masks, so they have no mask ratio: any." in said


def test_a_bin_without_blocks_is_none(tmp_path):
    run = write_run(tmp_path, "r", steps=(0,))
    found = by_mask_ratio(read_validation(run, 0), bins=1000)
    assert sum(one is not None for one in found) == 10


def test_long_lines_are_thinned_in_tables_and_said():
    many = [float(x) for x in range(100)]
    line = Series(name="a", x={"x": many}, y=many)
    plot = Plot(
        name="p", title="t", axes={"x": "x"}, views=[View(label="", y_label="y", series=[line])]
    )
    page = Page(plot.html())
    assert len(page.all("tr")) == 41
    assert "40 of 100 rows are listed." in page.inside[0]
    assert page.inside[page.all("tr")[-1][0]] == "9999"


def test_long_lines_and_large_heat_maps_are_thinned_in_the_figure_and_said():
    many = [float(x) for x in range(5000)]
    line = Series(name="a", x={"x": many}, y=many, stderr=many)
    names = [str(place) for place in range(500)]
    heat = Heat(columns=names, rows=["r"], values=[many[:500]], stderr=[many[:500]])
    for view, size in ((View(label="", y_label="y", series=[line]), 600),
                       (View(label="", y_label="y", heat=heat), 200)):  # fmt: skip
        page = Page(Plot(name="p", title="t", axes={"x": "x"}, views=[view]).html())
        (data,) = [json.loads(page.inside[n]) for n, _ in page.all("script")]
        drawn = data["views"][0]
        if drawn["heat"]:
            ends = [drawn["heat"]["columns"], *drawn["heat"]["values"], *drawn["heat"]["stderr"]]
        else:
            ends = [drawn["series"][0][key] for key in ("y", "stderr")]
            ends.append(drawn["series"][0]["x"]["x"])
        assert {len(values) for values in ends} == {size}
        assert all(float(values[-1]) == len(many[:500] if drawn["heat"] else many) - 1
                   for values in ends)  # fmt: skip
        assert "evenly spaced ones are drawn" in page.inside[0]
    few = (
        View(label="", y_label="y", series=[Series(name="a", x={"x": [1.0, 2.0]}, y=[1.0, 2.0])]),
        View(label="", y_label="y", heat=Heat(columns=("a", "b"), rows=("r",), values=((1, 2),))),
    )
    for view in few:
        page = Page(Plot(name="p", title="t", axes={"x": "x"}, views=[view]).html())
        assert "evenly spaced ones are drawn" not in page.inside[0]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_colours_have_contrast_in_both_themes():
    css = files("mdmkit.report.page").joinpath("page.css").read_text()
    blocks = [dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in css.split("}")[:3]]
    assert blocks[1] == blocks[2], "dark by choice is dark by preference"
    for colours in blocks[:2]:
        for ground in ("page", "surface"):
            for name, least in [("text", 7), ("quiet", 4.5), ("accent", 4.5), ("warn", 4.5),
                                ("mask", 3), *((f"colour-{n}", 3) for n in range(7))]:  # fmt: skip
                one, other = sorted(map(_luminance, (colours[name], colours[ground])))
                assert (other + 0.05) / (one + 0.05) >= least, (name, ground)
        one, other = sorted(map(_luminance, (colours["text"], colours["mark"])))
        assert (other + 0.05) / (one + 0.05) >= 7


def test_the_same_runs_make_the_same_page_and_replace_the_old(hostile, two, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    said: list[str] = []
    assert write_report(hostile, out, notify=said.append) == out
    assert out.read_text() == two
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert all("no FLOPs" in problem for problem in said)
    assert len(two) < 4_000_000
