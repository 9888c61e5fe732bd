"""What is wrong with the plugins of an installation, and what to do about it."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from attrs import frozen
from packaging.requirements import InvalidRequirement, Requirement

from mdmkit import API_VERSION, OLDEST_API, __version__
from mdmkit.errors import PluginError
from mdmkit.installed import (
    COMMANDS,
    DISTRIBUTION,
    RESTRICT,
    Source,
    builtin_sources,
    installed_sources,
    normalized,
    our_entries,
    providers,
    stated_api,
)
from mdmkit.plugins import BrokenPlugin, Catalogue, collisions, load_all

LOADED, LEFT_OUT, BROKEN, UNREACHABLE = "loaded", "left out", "broken", "unreachable"


@frozen(kw_only=True)
class Checked:
    """A plugin, or a command, of an installed distribution.

    Attributes:
        distribution, version, entry: which.
        what: ``plugin`` or ``command``.
        api: the version of the plugin API that it was made for, where it says so.
        state: ``loaded``, ``left out`` (by ``MDMKIT_PLUGINS``), ``broken``, or ``unreachable``: a
            command whose name another has.
        provides: what it adds, in words.
    """

    distribution: str
    version: str
    entry: str
    what: str
    api: int | None
    state: str
    provides: str


@frozen(kw_only=True)
class Problem:
    """Something that is wrong.

    Attributes:
        where: distribution and entry point.
        what: in a sentence.
        remedy: what to do.
        traceback: the end of it, where something could not be imported.
    """

    where: str
    what: str
    remedy: str
    traceback: str = ""


@frozen(kw_only=True)
class Health:
    """What `examine` found: every plugin, and every problem."""

    plugins: tuple[Checked, ...]
    problems: tuple[Problem, ...]


def examine(
    environ: Mapping[str, str],
    *,
    taken: Collection[str] = (),
    try_command: Callable[[Source], object],
) -> Health:
    """Look at every installed plugin and command.

    Args:
        environ: where ``MDMKIT_PLUGINS`` is looked up.
        taken: the names of our own commands.
        try_command: raises PluginError where a command cannot be used.

    Raises:
        PluginError: where ``MDMKIT_PLUGINS`` names a distribution that has no plugin.
    """
    let_in = list(installed_sources(environ))
    catalogue = load_all(let_in)
    everything = list(installed_sources({}))
    commands = list(installed_sources(environ, COMMANDS))
    wanted = {_place(source) for source in [*let_in, *commands]}
    unusable = dict(_unusable(commands, try_command))
    hidden = dict(_hidden(commands, taken))
    states = dict.fromkeys(hidden, UNREACHABLE) | dict.fromkeys(unusable, BROKEN)
    plugins = [_plugin(source, wanted, catalogue) for source in everything]
    plugins += [_command(source, wanted, states) for source in installed_sources({}, COMMANDS)]
    modules = {(source.distribution, source.entry): source.module for source in let_in}
    problems = [
        *_torn(),
        *_outdated(),
        *_twice(),
        *(_broken(p, modules[p.distribution, p.entry]) for p in catalogue.broken),
        *_colliding(catalogue),
        *unusable.values(),
        *hidden.values(),
    ]
    return Health(plugins=tuple(plugins), problems=tuple(problems))


def _place(source: Source) -> tuple[str, str, str]:
    return source.distribution, source.entry, source.module


def _plugin(source: Source, wanted: Collection[Any], catalogue: Catalogue) -> Checked:
    own = [
        c
        for c in catalogue.components
        if (c.distribution, c.plugin) == (source.distribution, source.entry)
    ]
    state = LOADED if own else BROKEN
    kinds = Counter(component.kind for component in own)
    provides = ", ".join(
        f"{kind} {' '.join(c.name for c in own if c.kind == kind)}" for kind in kinds
    )
    return _checked(source, "plugin", state if _place(source) in wanted else LEFT_OUT, provides)


def _command(source: Source, wanted: Collection[Any], states: Mapping[Any, str]) -> Checked:
    state = states.get(_place(source), LOADED) if _place(source) in wanted else LEFT_OUT
    return _checked(source, "command", state, f"mdmkit {source.entry}")


def _checked(source: Source, what: str, state: str, provides: str) -> Checked:
    return Checked(
        distribution=source.distribution,
        version=source.version,
        entry=source.entry,
        what=what,
        api=stated_api(source),
        state=state,
        provides=provides,
    )


def _torn() -> Iterator[Problem]:
    """Distributions whose entry points cannot be read, with plugins or without."""
    for distribution in metadata.distributions():
        try:
            tuple(distribution.entry_points)
        except Exception as error:  # whatever the file makes of the standard library
            name = distribution.metadata["Name"] or str(distribution.locate_file(""))
            yield Problem(
                where=name,
                what=f"its entry_points.txt cannot be read ({type(error).__name__}: {error}), so "
                "nothing in it is found",
                remedy=f"run: pip install --force-reinstall {name}",
            )


def _outdated() -> Iterator[Problem]:
    """Requirements of plugins that this installation does not meet."""
    for distribution in providers().values():
        for line in distribution.requires or ():
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            yield from _unmet(distribution, requirement)


def _unmet(distribution: metadata.Distribution, requirement: Requirement) -> Iterator[Problem]:
    where = f"{distribution.name} {distribution.version}"
    ours = normalized(requirement.name) == DISTRIBUTION
    try:
        found = __version__ if ours else metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        yield Problem(
            where=where,
            what=f"needs {requirement.name}, which is not installed",
            remedy=f'run: pip install "{requirement.name}{requirement.specifier}"',
        )
        return
    if not requirement.specifier.contains(found, prereleases=True):
        newer = f"install a version of {distribution.name} that was made for mdmkit {found}"
        yield Problem(
            where=where,
            what=f"needs {requirement.name}{requirement.specifier}; installed is {found}",
            remedy=f'run: pip install "{requirement.name}{requirement.specifier}"'
            + (f", or {newer}" if ours else ""),
        )


def _twice() -> Iterator[Problem]:
    """Distributions with plugins that are there more than once; the first hides the others."""
    found: dict[str, list[metadata.Distribution]] = {}
    for distribution in metadata.distributions():
        if our_entries(distribution):
            found.setdefault(normalized(distribution.metadata["Name"] or ""), []).append(
                distribution
            )
    for name, copies in found.items():
        places = sorted({str(copy.locate_file("")) for copy in copies})
        if name and len(places) > 1:
            yield Problem(
                where=name,
                what=f"is installed {len(places)} times: {', '.join(places)}; the first that "
                "Python finds is used",
                remedy=f"run `pip uninstall {name}` until it says that there is none, then "
                "install it once",
            )


def _broken(plugin: BrokenPlugin, module: str) -> Problem:
    return Problem(
        where=f"{plugin.distribution} {plugin.version} ({plugin.entry})",
        what=f"cannot be loaded: {'; '.join(plugin.error.splitlines())}",
        remedy=_remedy(plugin.distribution, plugin.version, module, plugin.error),
        traceback=plugin.traceback,
    )


def _remedy(distribution: str, version: str, module: str, error: str) -> str:
    """What to do about something in `module` that could not be loaded."""
    missing = re.search(r"No module named '([^'.]+)", error)
    if missing and missing[1] == module.partition(".")[0]:
        return f"{distribution} is not whole; run: pip install --force-reinstall {distribution}"
    if missing and missing[1] != DISTRIBUTION:
        return f"run: pip install {missing[1]} (if that is what provides the module)"
    if missing:
        return (
            f"{distribution} {version} was made for another version of mdmkit, this is "
            f"{__version__}; install one that fits"
        )
    if "plugin API" in error:
        return (
            f"this mdmkit takes plugins for the versions {OLDEST_API} to {API_VERSION}; install "
            f"another version of {distribution}, or of mdmkit"
        )
    if "ImportError: cannot import name" in error:
        return (
            f"{distribution} {version} was made for another version of what it imports from; "
            "install one that fits"
        )
    return f"mend it, or uninstall it: pip uninstall {distribution}"


def _unusable(
    commands: Iterable[Source], try_command: Callable[[Source], object]
) -> Iterator[tuple[tuple[str, str, str], Problem]]:
    for source in commands:
        try:
            try_command(source)
        except PluginError as error:
            yield (
                _place(source),
                Problem(
                    where=f"{source.distribution} {source.version}",
                    what=str(error),
                    remedy=_remedy(source.distribution, source.version, source.module, str(error)),
                    traceback="".join(traceback.format_exception(error.__cause__ or error)),
                ),
            )


def _colliding(catalogue: Catalogue) -> Iterator[Problem]:
    ours = load_all(builtin_sources())
    for sentence in collisions([*ours.components, *catalogue.components]):
        what, _, remedy = sentence.partition("; ")
        yield Problem(where="names", what=what, remedy=remedy or "give it one name")


def _hidden(
    commands: Sequence[Source], taken: Collection[str]
) -> Iterator[tuple[tuple[str, str, str], Problem]]:
    names = Counter(source.entry for source in commands)
    for source in commands:
        what = remedy = ""
        if source.entry in taken:
            what = f'its command "{source.entry}" is never reached: mdmkit has one of that name'
            remedy = f"give it another name in [project.entry-points.{COMMANDS!r}]"
        elif names[source.entry] > 1:
            what = f'another plugin has a command "{source.entry}", too, so neither can be used'
            remedy = f"uninstall one, or choose with {RESTRICT}=<distributions>"
        if what:
            where = f"{source.distribution} {source.version}"
            yield _place(source), Problem(where=where, what=what, remedy=remedy)
