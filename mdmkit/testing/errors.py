"""What a check says when a component breaks its contract."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen


class ContractError(AssertionError):
    """A component breaks a clause of its contract.

    Attributes:
        component: which one, as text.
        clause: the sentence of the contract that does not hold.
        found: the numbers that show it.
    """

    def __init__(self, component: str, clause: str, found: str) -> None:
        self.component, self.clause, self.found = component, clause, found
        super().__init__(f"{component}: the contract says: {clause}; found: {found}")


@frozen
class Contract:
    """The contract of one component under test; what every check is written in.

    Attributes:
        component: what messages call it.
    """

    component: str

    @classmethod
    def of(cls, kind: str, component: object) -> Contract:
        """The contract of `component`, a `kind` such as ``noise schedule``."""
        shown = component.__qualname__ if isinstance(component, type) else repr(component)
        return cls(f"{kind} {shown}")

    def require(self, holds: object, clause: str, found: str | Callable[[], str]) -> None:
        """Go on if `holds`.

        Args:
            holds: anything with a truth value.
            clause: the sentence of the contract.
            found: what was found instead, with its numbers; a function is called only on failure.

        Raises:
            ContractError: if it does not hold.
        """
        if not holds:
            raise ContractError(
                self.component, clause, found if isinstance(found, str) else found()
            )
