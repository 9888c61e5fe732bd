"""The page around the sections: styles, scripts, and what a browser may do with them.

The page loads nothing: its policy allows the very scripts that are in it, by their hashes, and no
connection. plotly's script is kept compressed, and put into the page once a browser has unpacked
it; without that, every figure still has its table.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from attrs import frozen

from mdmkit.report.page.markup import Content, Markup, joined, tag

_SCRIPTS = ("page.js", "figures.js", "player.js")
_STYLE = "page.css"


@frozen(kw_only=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        name: its id.
        title: its heading.
        content: below.
    """

    name: str
    title: str
    content: Markup


def document(title: str, heading: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: of the window.
        heading: at the top.
        sections: in order.
    """
    library, packed = _library()
    scripts = [_asset(name) for name in _SCRIPTS]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy([*scripts, library])),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="mdmkit"),
        tag("title", title),
        tag("style", Markup(_asset(_STYLE))),
    ]
    body = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        _header(heading),
        _contents(sections),
        tag("main", *map(_section, sections), id="content", tabindex="-1"),
        tag("script", Markup(packed), type="text/plain", id="library"),
        *(tag("script", Markup(script)) for script in scripts),
    ]
    whole = joined(tag("head", *head), tag("body", *body))
    return f"<!doctype html>\n{tag('html', whole, lang='en')}\n"


@cache
def _library() -> tuple[str, str]:
    """The plotting library, as it is and packed."""
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    return library, base64.b64encode(gzip.compress(library.encode(), 9, mtime=0)).decode()


def _asset(name: str) -> str:
    return files("mdmkit.report.page").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _header(heading: str) -> Markup:
    words: Sequence[tuple[str, str]] = (("auto", "System"), ("light", "Light"), ("dark", "Dark"))
    themes: list[Content] = [
        tag(
            "label",
            tag("input", type="radio", name="theme", value=value, checked=value == "auto"),
            tag("span", label),
        )
        for value, label in words
    ]
    return tag(
        "header",
        tag("div", tag("p", "mdmkit report", class_="kicker"), tag("h1", heading)),
        tag("fieldset", tag("legend", "Theme", class_="unseen"), *themes, class_="theme live"),
        class_="top",
    )


def _contents(sections: Sequence[Section]) -> Markup:
    links = [tag("li", tag("a", one.title, href=f"#{one.name}")) for one in sections]
    return tag("nav", tag("ul", *links), aria_label="Sections", class_="contents")


def _section(section: Section) -> Markup:
    heading = f"{section.name}-heading"
    return tag(
        "section",
        tag("h2", section.title, id=heading),
        section.content,
        id=section.name,
        aria_labelledby=heading,
    )
