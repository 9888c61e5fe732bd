"""Parts of a split, said as the `datasets` library says them: ``train[:-100000]``."""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import frozen

from mdmkit.errors import DataError

_SPELLING = re.compile(
    r"(?P<name>[^\[\]]+)"
    r"(\[((?P<start>-?\d+)(?P<start_unit>%?))?:((?P<stop>-?\d+)(?P<stop_unit>%?))?\])?"
)


@frozen(kw_only=True)
class SplitSlice:
    """The rows ``start:stop`` of a split, as Python counts: negative from the end.

    Attributes:
        name: of the split on the hub.
        start, stop: row numbers, or percent of the rows where `percent`; None for the ends.
        percent: whether `start` and `stop` are percent; they are rounded to whole rows.
    """

    name: str
    start: int | None = None
    stop: int | None = None
    percent: bool = False

    @classmethod
    def parse(cls, text: str, *, option: str) -> SplitSlice:
        """Read ``name``, ``name[start:stop]`` or ``name[start%:stop%]``; ends may be left out.

        Args:
            text: what is read.
            option: where it comes from, for the message.

        Raises:
            DataError: where it is none of these.

        >>> SplitSlice.parse("train[-100000:]", option="test")
        SplitSlice(name='train', start=-100000, stop=None, percent=False)
        """
        found = _SPELLING.fullmatch(text)
        units = (
            {found[end + "_unit"] for end in ("start", "stop") if found[end]} if found else set()
        )
        if found is None or len(units) > 1:
            raise DataError(
                f"{option}: cannot read {text!r}; expected the name of a split, with rows or "
                "percent if you like: train, train[:-100000], train[90%:]"
            )
        start, stop = (None if found[end] is None else int(found[end]) for end in ("start", "stop"))
        percent = units == {"%"}
        if percent and any(end is not None and abs(end) > 100 for end in (start, stop)):
            raise DataError(f"{option}: {text!r} asks for more than 100%")
        return cls(name=found["name"], start=start, stop=stop, percent=percent)

    @property
    def rows(self) -> str:
        """The slice as it was written, such as ``[:-100000]``; empty for the whole split."""
        if self.start is None and self.stop is None:
            return ""
        unit = "%" if self.percent else ""
        start, stop = ("" if e is None else f"{e}{unit}" for e in (self.start, self.stop))
        return f"[{start}:{stop}]"

    def bounds(self, count: Callable[[], int]) -> tuple[int, int | None]:
        """The number of the first row and of the one after the last; None for the end.

        Args:
            count: how many rows there are; called only where that must be known beforehand.

        Raises:
            DataError: where there are fewer rows than are counted off from the end.
        """
        if not self.percent and (self.start or 0) >= 0 and (self.stop is None or self.stop >= 0):
            return self.start or 0, self.stop
        total = count()
        start, stop = (e if e is None else self._row(e, total) for e in (self.start, self.stop))
        return start or 0, stop

    def _row(self, end: int, total: int) -> int:
        row = round(end * total / 100) if self.percent else end
        if abs(row) > total:
            raise DataError(
                f"{self.name}{self.rows}: there are only {total} rows; {self.name} alone stands "
                "for all of them"
            )
        return row + total if row < 0 else row
