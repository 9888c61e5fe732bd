"""What ``use`` may name, wherever a table chooses a component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from mdmkit.contracts import HOOKS
from mdmkit.errors import PluginError
from mdmkit.plugins import Catalogue
from mdmkit.problems import found, invalid
from mdmkit.suggest import did_you_mean

USE = "use"


@frozen(kw_only=True)
class Choice:
    """What the ``use`` of a table may name.

    Attributes:
        kind: what is chosen, in words.
        classes: options classes by name.
        broken: plugins that could not be loaded and might have provided more.
    """

    kind: str
    classes: Mapping[str, type]
    broken: tuple[str, ...] = ()

    def name_of(self, cls: type) -> str:
        """The name under which `cls` is registered.

        Raises:
            PluginError: where it is not registered at all, so that no recipe could say it.
        """
        for name, known in self.classes.items():
            if known is cls:
                return name
        raise PluginError(f"{cls.__qualname__} is not a registered {self.kind}")

    def find(self, name: object) -> type:
        """The class of that name, or `StructureError` with what it may have meant."""
        if not isinstance(name, str):
            raise invalid(f"expected a string, got {found(name)}", USE)
        if name in self.classes:
            return self.classes[name]
        hint = did_you_mean(name, self.classes)
        message = f'no {self.kind} "{name}"{hint or ";"} {self.known()}'
        for plugin in self.broken:
            message += f"; a plugin that might provide it is broken: {plugin}"
        raise invalid(message, USE)

    def known(self) -> str:
        """The names, for a message."""
        return f"known: {', '.join(sorted(self.classes)) or 'none'}"


def all_choices(
    catalogue: Catalogue, extra_tables: Mapping[Any, tuple[str, Mapping[str, type]]]
) -> dict[Any, Choice]:
    """The choices by the type of the field: the protocols of the hooks, and `extra_tables`."""
    broken = tuple(plugin.describe() for plugin in catalogue.broken)
    choices: dict[Any, Choice] = {
        point.protocol: Choice(
            kind=point.kind,
            classes={name: component.cls for name, component in catalogue.of(hook).items()},
            broken=broken,
        )
        for hook, point in HOOKS.items()
    }
    for annotation, (kind, classes) in extra_tables.items():
        choices[annotation] = Choice(kind=kind, classes=classes)
    return choices
