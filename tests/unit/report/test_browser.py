"""A report in a real browser, from disk: it draws, it obeys, and it asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdmkit.report.page import write_report
from mdmkit.report.page.document import Section, document
from mdmkit.report.page.figure_data import Series, View
from mdmkit.report.page.plots import Plot

from ..comparison.synthetic import write_run
from .browser import Browser, executable
from .hostile import BAD, LENGTH, write_hostile

pytest.importorskip("plotly", reason="figures are drawn by plotly's script")
pytestmark = pytest.mark.skipif(executable() is None, reason="needs an installed Chromium")
PLOT = "document.getElementById('validation')"
DRAWN = (
    "document.documentElement.classList.contains('drawing') && "
    "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.xtitle'))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_report(write_hostile(folder), folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def opened(browser: Browser, folder: Path) -> Browser:
    """The report at the width of a desktop; tests leave what they change as they like."""
    browser.open(folder / "report.html", height=20000)  # so high that all is in sight, and drawn
    browser.wait(DRAWN)
    browser.resize(1280)
    return browser


def use(browser: Browser, selector: str, value: object) -> None:
    """Give a control a value, as its user does."""
    browser.run(
        f"(() => {{ const c = document.querySelector({selector!r}); "
        f"if (c.type === 'checkbox' || c.type === 'radio') c.checked = {value!r} === 'on'; "
        f"else c.value = {value!r}; "
        "c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change')); })()"
    )


def test_every_figure_is_drawn_and_nothing_is_asked_for(opened, folder):
    assert opened.run("document.querySelectorAll('figure').length") == 10
    assert opened.run("typeof window.pwned") == "undefined"
    assert opened.said == []
    assert opened.requests == [(folder / "report.html").resolve().as_uri()]


def test_hostile_labels_are_shown_as_they_are(opened):
    said = opened.run("document.querySelector('#analysis-locality-curve').textContent")
    assert "</script><script>window.pwned" in said
    assert "<b>%{x}</b>" in said  # plotly itself would make it bold
    assert BAD in opened.run("document.querySelector('#analyses .legend').textContent")
    assert opened.run("document.querySelectorAll('img, main a[href^=java]').length") == 0


def test_the_axis_can_be_chosen(opened):
    title = f"{PLOT}.querySelector('.xtitle').textContent"
    assert opened.run(title) == "optimizer steps"
    use(opened, "#validation-axis", "tokens")
    opened.wait(f"{title} === 'tokens seen'")
    use(opened, "#validation-axis", "seconds")
    opened.wait(f"{title} === 'seconds'")
    use(opened, "figure [data-control=log-x]", "on")
    opened.wait(f"{PLOT}.layout.xaxis.type === 'log'")


def test_the_metric_can_be_chosen_and_a_line_hidden(opened):
    title = "document.getElementById('training').querySelector('.ytitle').textContent"
    assert opened.run(title).startswith("training loss")
    use(opened, "#training-view", "1")
    opened.wait(f"{title} === 'train/<img src=x onerror=window.pwned=2>'")
    plot = "document.getElementById('training')"
    assert opened.run(f"{plot}.data.length") == 2
    opened.run(f"{plot}.closest('figure').querySelector('.legend input').click()")
    opened.wait(f"{plot}.data.length === 1")


def test_the_slider_goes_through_training(opened):
    figure = "document.getElementById('loss-by-mask-ratio').closest('figure')"
    assert opened.run(f"{figure}.querySelector('output').textContent") == "step 600"
    before = opened.run(f"{figure}.querySelector('.plot').data[1].y[0]")
    use(opened, "#loss-by-mask-ratio-view", "1")
    opened.wait(f"{figure}.querySelector('output').textContent === 'step 50'")
    after = opened.run(f"{figure}.querySelector('.plot').data[1].y[0]")
    assert after == pytest.approx(before + 2.0)  # the synthetic curve: 5 then, 3 at its end


def test_themes(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, text = opened.run(ground), opened.run(f"{PLOT}.layout.font.color")
    opened.prefer(dark=True)
    opened.wait(f"{ground} !== {light!r}")
    opened.wait(f"{PLOT}.layout.font.color !== {text!r}")
    use(opened, "input[name=theme][value=light]", "on")
    opened.wait(f"{ground} === {light!r}")
    use(opened, "input[name=theme][value=auto]", "on")
    opened.prefer(dark=False)
    assert opened.run(ground) == light


def test_the_player_obeys_the_keyboard(opened):
    masks = "document.querySelectorAll('#player-canvas .mask').length"
    assert opened.run(masks) == 0
    opened.run("document.getElementById('player-canvas').focus()")
    opened.press("Home")
    assert opened.run(masks) == LENGTH
    opened.press("ArrowRight")
    assert opened.run(masks) == LENGTH - 1
    assert opened.run("document.querySelector('#player-canvas .fresh').textContent") == BAD
    opened.press("ArrowRight")  # one more, and the first is masked again
    assert opened.run(masks) == LENGTH - 1
    assert "State 2 of 12" in opened.run("document.getElementById('player-status').textContent")
    opened.press("ArrowLeft")
    assert opened.run("document.querySelector('#player-canvas span').textContent") == BAD
    assert "State 1 of 12" in opened.run("document.getElementById('player-status').textContent")
    live = "document.getElementById('player-status').getAttribute('aria-live')"
    use(opened, "#player-speed", "40")
    opened.press(" ")
    assert opened.run(live) == "off"
    opened.wait(f"{masks} === 0 && {live} === 'polite'")
    assert opened.run("document.getElementById('player-state').value") == str(LENGTH)


def test_the_focus_is_seen_and_begins_with_the_skip_link(opened):
    opened.run("document.documentElement.tabIndex = -1; document.documentElement.focus()")
    opened.press("Tab")
    assert opened.run("document.activeElement.className") == "skip"
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_nothing_is_wider_than_a_phone(opened):
    opened.resize(390, 800)
    opened.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    wide = "document.documentElement.scrollWidth"
    opened.wait(f"{wide} <= 390")
    opened.wait("[...document.querySelectorAll('.plot')].every((p) => p.clientWidth <= 390)")
    opened.resize(1280)


def test_without_the_library_the_numbers_are_open(browser, folder):
    run = write_run(folder / "plain", "plain", steps=(0, 50))
    out = folder / "plain.html"
    write_report([run], out)
    out.write_text(out.read_text().replace("new DecompressionStream", "new Nothing"))
    browser.open(out)  # the changed script is not one that the policy allows, so no script runs
    shown = "getComputedStyle(document.querySelector('figure .controls')).display"
    assert browser.run(shown) == "none"
    assert browser.run("document.querySelectorAll('figure table td').length") > 10


def test_references_differ_in_their_dashes(browser, tmp_path):
    lines = [
        Series(name=str(n), x={"x": [1.0, 2.0]}, y=[n, n + 1.0], known=n > 0) for n in range(5)
    ]
    view = View(label="", y_label="y", series=lines)
    plot = Plot(name="validation", title="t", axes={"x": "x"}, views=[view])
    page = document("t", "t", [Section(name="s", title="s", content=plot.html())])
    (tmp_path / "page.html").write_text(page)
    browser.open(tmp_path / "page.html")
    browser.wait(DRAWN)
    drawn, legend = (
        browser.run(f"[...document.querySelectorAll({where!r})].map((line) => line.{what})")
        for where, what in (
            (".js-line", "style.strokeDasharray"),
            (".legend line", "getAttribute('stroke-dasharray')"),
        )
    )
    assert len(drawn) == len(legend) == 5
    assert len(set(drawn)) == len(set(legend)) == 5
