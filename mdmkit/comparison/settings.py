"""How runs are compared."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen

from mdmkit.comparison.groups import COOLED, ENVELOPE, Key
from mdmkit.errors import MdmkitError


@frozen(kw_only=True)
class Settings:
    """How runs are compared; `mdmkit.comparison.compare.compare` says what each of these is."""

    margin: float = 0.01
    bins: int = 5
    escape_margin: float = 0.1
    plateau: float | None = None
    clusters: str = "documents"
    envelope: bool = False
    cooled: bool = False
    resamples: int = 2000
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        """Refuse what makes no sense."""
        wrong = {
            "margin": self.margin < 0,
            "bins": self.bins < 1,
            "escape_margin": self.escape_margin <= 0,
            "resamples": self.resamples < 100,
            "seed": self.seed < 0,
            "clusters": self.clusters not in ("documents", "blocks"),
        }
        expected = {
            "margin": "a number >= 0",
            "bins": "1 or more",
            "escape_margin": "a number > 0",
            "resamples": "100 or more",
            "seed": "a number >= 0",
            "clusters": "documents or blocks",
        }
        for name, bad in wrong.items():
            if bad:
                option = name.replace("_", "-")
                raise MdmkitError(f"{option}: expected {expected[name]}, got {getattr(self, name)}")

    @property
    def free(self) -> frozenset[Key]:
        """The keys in which the runs of one method may differ."""
        return (ENVELOPE if self.envelope else frozenset()) | (
            COOLED if self.cooled else frozenset()
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {**attrs.asdict(self), "interval": 0.95}
