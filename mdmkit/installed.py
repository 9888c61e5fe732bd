"""The installed distributions that extend mdmkit, found by their entry points alone.

Group ``mdmkit`` has plugins, modules with hook functions; group ``mdmkit.commands`` has commands
(`mdmkit.cli.plugin_commands`). Nothing is imported here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import API_VERSION, OLDEST_API, __version__
from mdmkit.errors import PluginError
from mdmkit.suggest import did_you_mean

ENTRY_POINT_GROUP = "mdmkit"
COMMANDS = "mdmkit.commands"
RESTRICT = "MDMKIT_PLUGINS"
API = "MDMKIT_API"
"""A plugin's variable of this name says for which `mdmkit.API_VERSION` it was made."""
DISTRIBUTION = "mdmkit"
BUILTINS = tuple(
    f"mdmkit.builtin.{name}"
    for name in (
        "denoisers",
        "schedules",
        "time_samplers",
        "mask_patterns",
        "weightings",
        "objectives",
        "samplers",
        "evaluators",
        "corpora",
        "trackers",
    )
)


@frozen(kw_only=True)
class Source:
    """Something that can be registered: where it is and how it is imported.

    Attributes:
        distribution, version: what it is part of.
        entry: its name there: of the entry point (for ours, of the module).
        load: imports it and returns the plugin object, mostly a module.
        module: the module that it is, or is in.
    """

    distribution: str
    version: str
    entry: str
    load: Callable[[], Any]
    module: str = ""


def sources_of(distribution: str) -> tuple[Source, ...]:
    """The plugins of one installed distribution; of ours, the built-in modules.

    Raises:
        PluginError: where it has none; the message says which distributions have.
    """
    key = normalized(distribution)
    if key == DISTRIBUTION:
        return tuple(builtin_sources())
    found = providers()
    if key in found and (plugins := tuple(_sources(found[key]))):
        return plugins
    known = [DISTRIBUTION, *(name for name in found if tuple(_sources(found[name])))]
    try:
        version = metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        problem = f'no distribution "{distribution}" is installed'
        problem += did_you_mean(key, known) or ";"
    else:
        problem = (
            f"{distribution} {version} is installed, but provides no plugin: it has no entry "
            f'point in the group "{ENTRY_POINT_GROUP}";'
        )
    raise PluginError(f"{problem} distributions with plugins: {', '.join(known)}")


def declared_api(source: Source, loaded: object) -> object:
    """What a plugin or command says once it is loaded: itself, or else the module that it is in."""
    return getattr(loaded, API, getattr(sys.modules.get(source.module), API, None))


def stated_api(source: Source) -> int | None:
    """The ``MDMKIT_API`` of a plugin's module, which is not imported for it.

    Where it is imported already it is asked; otherwise its text is read.
    """
    try:
        stated = getattr(sys.modules.get(source.module), API, None)
        if type(stated) is int:
            return stated
        text = Path(_file(source.module)).read_text(encoding="utf-8")
    except Exception:  # finders and modules of others may raise anything
        return None
    found = re.search(rf"^{API}(?:: \w+)? *= *(\d+)\s*(?:#.*)?$", text, re.MULTILINE)
    return int(found[1]) if found else None


def _file(module: str) -> str:
    """Where a module is, found step by step, since `importlib.util` imports what is above it."""
    name, file = "", ""
    path: Sequence[str] | None = None
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        found = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next(spec for spec in found if spec is not None)
        path, file = spec.submodule_search_locations or (), spec.origin or ""
    return file


def check_api(stated: object) -> None:
    """Refuse a plugin that was made for other promises than ours; one that says nothing may try.

    Raises:
        PluginError: where it was.
    """
    if stated is None:
        return
    if not isinstance(stated, int) or isinstance(stated, bool):
        raise PluginError(f"{API}: expected a whole number such as {API_VERSION}, got {stated!r}")
    if stated > API_VERSION:
        raise PluginError(
            f"it was made for version {stated} of the plugin API, mdmkit {__version__} has "
            f"version {API_VERSION}: upgrade mdmkit, or install an older version of the plugin"
        )
    if stated < OLDEST_API:
        raise PluginError(
            f"it was made for version {stated} of the plugin API, mdmkit {__version__} goes back "
            f"to version {OLDEST_API} only: upgrade the plugin, or install an older mdmkit"
        )


def builtin_sources() -> Iterator[Source]:
    """Our own modules."""
    for module in BUILTINS:
        yield Source(
            distribution=DISTRIBUTION,
            version=__version__,
            entry=module,
            load=partial(import_module, module),
        )


def installed_sources(
    environ: Mapping[str, str] = os.environ, group: str = ENTRY_POINT_GROUP
) -> Iterator[Source]:
    """The plugins, or the commands, that are installed and that ``MDMKIT_PLUGINS`` lets in.

    Raises:
        PluginError: where that names what is not there.
    """
    found = providers()
    for key in _wanted(environ.get(RESTRICT, ""), found):
        yield from _sources(found[key], group)


def _sources(
    distribution: metadata.Distribution, group: str = ENTRY_POINT_GROUP
) -> Iterator[Source]:
    for entry in (entry for entry in our_entries(distribution) if entry.group == group):
        yield Source(
            distribution=distribution.name,
            version=distribution.version,
            entry=entry.name,
            load=entry.load,
            module=entry.value.partition(":")[0].strip(),
        )


def providers() -> dict[str, metadata.Distribution]:
    """The installed distributions with plugins by normalized name, in alphabetical order.

    A distribution that is found twice (an editable install beside an old one) counts once, as
    the one that ``import`` would find first; one whose metadata is damaged has no name. Only the
    names of those with plugins are read, since reading all of them takes most of the time.
    """
    found: dict[str, metadata.Distribution] = {}
    for distribution in filter(our_entries, metadata.distributions()):
        name = distribution.metadata["Name"]
        if name and normalized(name) not in found:
            first = metadata.distribution(name)
            if our_entries(first):
                found[normalized(name)] = first
    return dict(sorted(found.items()))


def our_entries(distribution: metadata.Distribution) -> tuple[metadata.EntryPoint, ...]:
    """The plugins and commands of a distribution; none where its entry points cannot be read."""
    try:
        entries = distribution.entry_points
        return tuple(e for e in entries if e.group in (ENTRY_POINT_GROUP, COMMANDS))
    except Exception:  # a stranger's file may be torn anywhere
        return ()


def _wanted(restriction: str, known: Iterable[str]) -> list[str]:
    known = list(known)
    names = [normalized(name.strip()) for name in restriction.split(",") if name.strip()]
    if not names:
        return known
    if names == ["none"]:
        return []
    for name in names:
        if name not in known:
            raise PluginError(
                f'{RESTRICT}: no installed distribution "{name}" provides mdmkit plugins'
                f"{did_you_mean(name, known) or ';'} known: {', '.join(known) or 'none'}"
            )
    return [name for name in known if name in names]


def normalized(name: str) -> str:
    """A distribution's name as the package index compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()
