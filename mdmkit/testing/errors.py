"""What a check says when a component breaks its contract."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

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


class ContractsError(AssertionError):
    """Some of the components of a module break their contracts.

    Attributes:
        errors: what was raised, by what was checked: ``time_samplers::triangle[power=0.5]``. A
            `ContractError`, or whatever the component itself raised.
    """

    def __init__(self, owner: str, errors: Mapping[str, Exception], checked: int) -> None:
        self.errors = dict(errors)
        parts = [f"{owner} fails {len(errors)} of {checked} contract checks"]
        parts += [f"{owner}::{place}\n{explain(error)}" for place, error in errors.items()]
        super().__init__("\n\n".join(parts))


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


def explain(error: BaseException) -> str:
    """An error of a check in a few lines: clause and numbers, or where the component failed."""
    if isinstance(error, ContractError):
        lines = [error.component, f"the contract says: {error.clause}", f"found: {error.found}"]
    else:
        lines = [f"the check ran into {type(error).__name__}: {error}", *_frames(error)]
    return "\n".join(f"    {line}" for text in lines for line in text.splitlines())


def _frames(error: BaseException) -> list[str]:
    """Where it was raised, the innermost last, without the frames of the checks and their callers.

    What was raised before any check (by a plugin's own function) keeps all its frames.
    """
    here = Path(__file__).parent
    frames = list(traceback.extract_tb(error.__traceback__))
    ours = [number for number, frame in enumerate(frames) if Path(frame.filename).parent == here]
    frames = [f for number, f in enumerate(frames) if number > min(ours, default=-1)]
    frames = [frame for frame in frames if Path(frame.filename).parent != here]
    return [f"{f.filename}:{f.lineno}, in {f.name}: {f.line}" for f in frames[-4:]]
