"""HTML out of Python, in which every text is escaped unless it is markup of our own making.

A corpus may contain markup or script, and so may the names of runs and the words of a plugin.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from mdmkit.report.tables import printable

_EMPTY = frozenset({"br", "col", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Markup | None
Cells = Sequence[Content]


def escaped(text: str) -> Markup:
    r"""`text` as HTML, its control characters written out.

    >>> escaped("</script>\x00")
    '&lt;/script&gt;\\x00'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text)))


def breakable(text: str) -> Markup:
    """Text that a narrow screen breaks after an underscore rather than anywhere.

    >>> breakable("a<b_c")
    'a&lt;b_<wbr>c'
    """
    return Markup(escaped(text).replace("_", "_<wbr>"))


def joined(*parts: Content) -> Markup:
    """The parts one after the other; None is nothing."""
    return Markup("".join(escaped(part) for part in parts if part is not None))


def tag(name: str, /, *parts: Content, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        parts: inside of it.
        attributes: by name, ``_`` for ``-``, a last one dropped; True stands without a value, and
            None and False are left out.

    >>> tag("td", "a < b", class_="n", hidden=True, title=None)
    '<td class="n" hidden>a &lt; b</td>'
    """
    said = ""
    for key, value in attributes.items():
        key = key.removesuffix("_").replace("_", "-")
        if value is True:
            said += f" {key}"
        elif value is not None and value is not False:
            said += f' {key}="{html.escape(printable(str(value)))}"'
    if name in _EMPTY:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{joined(*parts)}</{name}>")


def data(value: Any, **attributes: object) -> Markup:
    r"""Plain data for scripts, in a script element that nothing executes and nothing can end.

    >>> data("</script>")
    '<script type="application/json">"\\u003c/script\\u003e"</script>'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Markup(text), type="application/json", **attributes)


def table(
    header: Cells,
    rows: Sequence[Cells],
    *,
    caption: str,
    visible: bool = False,
    words: int = 1,
    whole: bool = False,
) -> Markup:
    """A table in a box that scrolls by itself, by mouse and keyboard.

    Args:
        header: of the columns.
        rows: the first cell of each is its header.
        caption: what it is.
        visible: whether the caption is shown, too, and not only told.
        words: how many columns, from the left, hold words; the others hold numbers.
        whole: whether it is as high as it needs to be, and scrolls only to the side.
    """
    kinds = ["word" if number < words else "number" for number in range(len(header))]
    head = [
        tag("th", cell, scope="col", class_=kind) for cell, kind in zip(header, kinds, strict=True)
    ]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_="word"),
            *(tag("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    content = tag(
        "table",
        tag("caption", caption, class_=None if visible else "unseen"),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )
    kind = "scroll whole" if whole else "scroll"
    return tag("div", content, class_=kind, tabindex="0", role="region", aria_label=caption)


def details(summary: Content, *parts: Content, class_: str | None = None) -> Markup:
    """What is unfolded on demand."""
    return tag("details", tag("summary", summary), *parts, class_=class_)


def paragraph(*parts: Content, class_: str | None = None) -> Markup:
    """A paragraph."""
    return tag("p", *parts, class_=class_)


def missing(what: str, *commands: str) -> Markup:
    """What is not there, and which commands make it."""
    typed: list[Content] = []
    for command in commands:
        typed += [" or " if typed else " Made by: ", tag("code", command)]
    return paragraph(what, *typed, class_="missing")


def copied(text: str, *, of: str) -> Markup:
    """Text in a box, with a button that copies it.

    Args:
        text: as it is.
        of: what it is, for those who hear the button.
    """
    button = tag("button", "Copy", type="button", class_="copy live", aria_label=f"Copy {of}")
    box = tag("pre", tag("code", text), tabindex="0", role="region", aria_label=of)
    return tag("div", button, box, class_="copied")
