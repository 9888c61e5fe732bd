"""The names of a new plugin: of its distribution, module, class and component."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
from collections.abc import Collection, Mapping

from attrs import frozen

from mdmkit.contracts import HOOKS, NAME
from mdmkit.errors import PluginError
from mdmkit.installed import normalized
from mdmkit.plugins import Catalogue
from mdmkit.suggest import did_you_mean

PREFIX = "mdmkit-"
"""What the name of a plugin's distribution begins with, by custom."""

_DISTRIBUTION = re.compile(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE | re.ASCII)
_LENGTH, _CLASS_LENGTH = 40, 20  # characters; lines of the templates have room for so many
_FOLDERS = ("build", "dist", "doc", "docs", "example", "examples", "src", "test", "tests")

KINDS: Mapping[str, str] = {point.kind.replace(" ", "_"): hook for hook, point in HOOKS.items()}
"""Hooks by the kind of component that they give: ``time_sampler``."""


@frozen(kw_only=True)
class Names:
    """What a new plugin is called.

    Attributes:
        distribution: what is installed, such as ``mdmkit-foo``.
        kind: of its component, a key of `KINDS`.
        component: what a recipe's ``use`` says.
    """

    distribution: str
    kind: str
    component: str

    @property
    def hook(self) -> str:
        """Such as ``mdmkit_time_samplers``."""
        return KINDS[self.kind]

    @property
    def words(self) -> str:
        """The kind in words: ``time sampler``."""
        return HOOKS[self.hook].kind

    @property
    def module(self) -> str:
        """Such as ``mdmkit_foo``."""
        return normalized(self.distribution).replace("-", "_")

    @property
    def entry(self) -> str:
        """The entry point's name: that of the distribution without ``mdmkit-``."""
        return normalized(self.distribution).removeprefix(PREFIX)

    def class_name(self, taken: Collection[str]) -> str:
        """The component's name in CamelCase, or as near to it as can be.

        Args:
            taken: names that the module has already.
        """
        words = [word[:1].upper() + word[1:] for word in re.split(r"[._-]+", self.component)]
        while len(words) > 1 and sum(map(len, words)) > _CLASS_LENGTH:
            words.pop()
        kind = self.words.title().replace(" ", "")
        name = "".join(words)[:_CLASS_LENGTH]
        if not name.isidentifier():  # it begins with a digit
            return (kind + name)[:_CLASS_LENGTH]
        known = {*taken, *dir(builtins), *keyword.kwlist}
        return name + kind if name in known else name


def chosen_names(distribution: str, kind: str, component: str | None = None) -> Names:
    """The names of a plugin, once they are checked.

    Args:
        distribution: its name.
        kind: such as ``time_sampler``; the hook's own name is understood, too.
        component: what a recipe will call it; None: the distribution's name without ``mdmkit-``.

    Raises:
        PluginError: where a name is not allowed or taken; it suggests another.
    """
    _check_distribution(distribution)
    kind = {hook: known for known, hook in KINDS.items()}.get(kind, kind)
    if kind not in KINDS:
        meant = did_you_mean(kind.removeprefix("mdmkit_"), KINDS) or ";"
        raise PluginError(f'--hook: no hook "{kind}"{meant} known: {", ".join(KINDS)}')
    names = Names(distribution=distribution, kind=kind, component="")
    component = names.entry.replace("-", "_") if component is None else component
    if not NAME.fullmatch(component):
        better = re.sub(r"[^a-z0-9]+", "_", component.lower()).strip("_")
        raise PluginError(
            f'--component: "{component}" is no name of a component: expected letters, digits and '
            f". _ -, with a letter or digit first{_suggested(better)}"
        )
    _check_length("--component: ", component)
    return Names(distribution=distribution, kind=kind, component=component)


def refuse_twin(names: Names, catalogue: Catalogue) -> None:
    """Refuse the name of a component that is installed: two of one name would be an error.

    Raises:
        PluginError: naming the distribution that has it.
    """
    twin = catalogue.of(names.hook).get(names.component)
    if twin is not None:
        raise PluginError(
            f'there is a {names.words} "{names.component}" already, of {twin.distribution} '
            f"{twin.version}; choose another name with --component"
        )


def _check_distribution(name: str) -> None:
    prefixed = PREFIX + normalized(name).removeprefix(PREFIX)
    if not _DISTRIBUTION.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").removeprefix(PREFIX)
        raise PluginError(
            f'"{name}" is no name of a distribution: expected letters, digits and . _ -, with a '
            f"letter or digit at both ends{_suggested(better and PREFIX + better)}"
        )
    _check_length("", name)
    module = normalized(name).replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module) or module in _FOLDERS:
        raise PluginError(f'no module can be called "{module}"{_suggested(prefixed)}')
    found = importlib.util.find_spec(module)
    if found is not None and found.origin is not None:  # without one it is but a folder
        raise PluginError(
            f'there is a module "{module}" already, {found.origin}; the plugin needs one of its '
            "own: choose another name"
        )


def _check_length(where: str, name: str) -> None:
    if len(name) > _LENGTH:
        raise PluginError(
            f'{where}"{name}" has {len(name)} characters, expected at most {_LENGTH}: choose a '
            "shorter name"
        )


def _suggested(name: str) -> str:
    return f'; did you mean "{name}"?' if name else ""
