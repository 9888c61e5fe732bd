"""One check for everything that a module registers."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mdmkit.errors import MissingPackageError
from mdmkit.installed import BUILTINS, DISTRIBUTION, Source
from mdmkit.testing.cases import contract_cases
from mdmkit.testing.errors import ContractsError


def check_all(module: Any, *, examples: Iterable[Any] = ()) -> None:
    """Check all that a plugin registers: hook names, mappings, options classes, components.

    Every component is tried with the examples that ``contract_examples`` in the plugin gives for
    it (see `mdmkit.testing.cases`), or else with its default options. One that needs a package
    which is not installed is passed over.

    Args:
        module: the plugin: a module, its dotted name, or any object with hook implementations.
        examples: more examples, components or pairs of a component and the settings of its check.

    Raises:
        ContractsError: with everything that does not hold, after all has been tried.
    """
    plugin = import_module(module) if isinstance(module, str) else module
    name = getattr(plugin, "__name__", type(plugin).__name__)
    owner = DISTRIBUTION if name in BUILTINS else name
    source = Source(distribution=owner, version="(as given)", entry=name, load=lambda: plugin)
    errors: dict[str, Exception] = {}
    with TemporaryDirectory(prefix="mdmkit-contract-") as directory:
        cases = list(contract_cases([source], directory=Path(directory), examples=examples))
        for case in cases:
            try:
                case.run()
            except MissingPackageError:
                continue  # what is not installed cannot be tried
            except Exception as error:  # a component may raise anything; the others still count
                errors[case.place] = error
    if errors:
        raise ContractsError(name, errors, len(cases))
