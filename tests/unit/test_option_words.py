from __future__ import annotations

import attrs
from attrs import Factory, frozen

from mdmkit.option_words import option_rows
from mdmkit.options import option


@frozen(kw_only=True)
class Options:
    width: int = option(doc="no default")
    height: int = option(3, doc="a plain one")
    area: int = attrs.field(default=Factory(lambda self: self.width * self.height, takes_self=True))


def test_a_default_that_follows_from_other_options_is_computed_and_not_required() -> None:
    attrs.resolve_types(Options)
    rows = option_rows(attrs.fields(Options), {})
    assert [row.default for row in rows] == ["required", "3", "computed"]
