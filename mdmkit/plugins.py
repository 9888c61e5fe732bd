"""Finds, loads and checks the components: ours and other people's, by one and the same path.

A manager is built by a function and thrown away; what remains is a `Catalogue`. A plugin that
cannot be loaded or breaks a contract is kept aside with its reason, and the others go on.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping

import pluggy
from attrs import frozen

from mdmkit import hookspecs
from mdmkit.contracts import HOOKS, check_components
from mdmkit.errors import PluginError
from mdmkit.installed import (
    RESTRICT,
    Source,
    builtin_sources,
    check_api,
    declared_api,
    installed_sources,
    stated_api,
)
from mdmkit.suggest import did_you_mean


@frozen(kw_only=True)
class Component:
    """An options class and where it comes from.

    Attributes:
        hook: the hook that returned it, such as ``mdmkit_time_samplers``.
        kind: what it is, in words: ``time sampler``.
        name: what a recipe's ``use`` says.
        cls: the options class.
        distribution, version: the installed distribution that owns it.
        plugin: the module or entry point in that distribution.
    """

    hook: str
    kind: str
    name: str
    cls: type
    distribution: str
    version: str
    plugin: str


@frozen(kw_only=True)
class BrokenPlugin:
    """A plugin that provides nothing because it failed.

    Attributes:
        distribution, version: the installed distribution.
        entry: the entry point's name (for ours, the module's).
        error: the reason, in one or a few lines.
        traceback: the whole traceback.
    """

    distribution: str
    version: str
    entry: str
    error: str
    traceback: str

    def describe(self) -> str:
        """Which plugin it is and why it is broken, in one line."""
        reason = "; ".join(self.error.splitlines())
        return f"{self.distribution} {self.version} ({self.entry}) could not be loaded: {reason}"


@frozen(kw_only=True)
class Catalogue:
    """Every component there is, and every plugin that failed."""

    components: tuple[Component, ...]
    broken: tuple[BrokenPlugin, ...] = ()

    def of(self, hook: str) -> dict[str, Component]:
        """The components of a hook by name, in alphabetical order."""
        found = {c.name: c for c in self.components if c.hook == hook}
        return dict(sorted(found.items()))


def load_catalogue(environ: Mapping[str, str] = os.environ) -> Catalogue:
    """Load our own modules and then every installed plugin.

    Args:
        environ: where ``MDMKIT_PLUGINS`` is looked up: names of distributions, separated by
            commas, to which third-party plugins are restricted; ``none`` loads none of them;
            empty or unset loads all.

    Raises:
        PluginError: where two plugins give one name to two components of a hook, or
            ``MDMKIT_PLUGINS`` names a distribution that provides no plugin.
    """
    return build_catalogue([*builtin_sources(), *installed_sources(environ)])


def build_catalogue(sources: Iterable[Source]) -> Catalogue:
    """Register each source in turn and keep what it provides, or why it could not.

    Raises:
        PluginError: where two give one name to two components of a hook.
    """
    catalogue = load_all(sources)
    for problem in collisions(catalogue.components):
        raise PluginError(problem)
    return catalogue


def load_all(sources: Iterable[Source]) -> Catalogue:
    """The same, with components that collide."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    components: list[Component] = []
    broken: list[BrokenPlugin] = []
    for source in sources:
        try:
            components += _load(manager, source)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        # A stranger's module may raise anything while it is imported or asked, even SystemExit;
        # it must not take the other plugins down with it.
        except BaseException as error:
            broken.append(_broken(source, error))
    return Catalogue(components=tuple(components), broken=tuple(broken))


def _load(manager: pluggy.PluginManager, source: Source) -> list[Component]:
    """Import, register, check and ask one plugin; a plugin that fails is unregistered again."""
    plugin = source.load()
    name = f"{source.distribution}:{source.entry}"
    check_api(declared_api(source, plugin))
    if manager.is_registered(plugin):
        raise PluginError(f"the same object is already registered as {manager.get_name(plugin)!r}")
    try:
        manager.register(plugin, name=name)
        _check_hook_names(manager, plugin)
        return list(_components(manager, plugin, source))
    except BaseException:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise


def _check_hook_names(manager: pluggy.PluginManager, plugin: object) -> None:
    """What pluggy's ``check_pending`` does, for one plugin and with a suggestion."""
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec():
            raise PluginError(f"there is no hook {caller.name!r}{did_you_mean(caller.name, HOOKS)}")
    implemented = {caller.name for caller in callers}
    for hook in HOOKS:
        if hook not in implemented and callable(getattr(plugin, hook, None)):
            raise PluginError(f"{hook} is not marked with @mdmkit.hookimpl")
    if not callers:
        raise PluginError("it implements no hook: nothing in it is marked with @mdmkit.hookimpl")


def _components(
    manager: pluggy.PluginManager, plugin: object, source: Source
) -> Iterator[Component]:
    """Ask each of a plugin's implementations by itself, so that every component has an owner."""
    for caller in manager.get_hookcallers(plugin) or []:
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginError(f"{caller.name}: wrappers are not supported")
            provided = check_components(caller.name, implementation.function())
            for name, cls in provided.items():
                yield Component(
                    hook=caller.name,
                    kind=HOOKS[caller.name].kind,
                    name=name,
                    cls=cls,
                    distribution=source.distribution,
                    version=source.version,
                    plugin=source.entry,
                )


def _broken(source: Source, error: BaseException) -> BrokenPlugin:
    own = isinstance(error, PluginError | pluggy.PluginValidationError)
    if not own:  # what it says of itself may explain what went wrong before it could be asked
        try:
            check_api(stated_api(source))
        except PluginError as reason:
            error, own = reason.with_traceback(error.__traceback__), True
    return BrokenPlugin(
        distribution=source.distribution,
        version=source.version,
        entry=source.entry,
        error=str(error) if own else f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


def collisions(components: Iterable[Component]) -> Iterator[str]:
    """What is wrong where two components have one name, or one has two; a sentence each."""
    names: dict[tuple[str, str], Component] = {}
    classes: dict[tuple[str, type], Component] = {}
    for new in components:
        old = names.setdefault((new.hook, new.name), new)
        if old is not new:
            yield (
                f'two components provide the {new.kind} "{new.name}": {_owner(old)} and '
                f"{_owner(new)}; uninstall one of them, or choose with {RESTRICT}=<distributions>"
            )
        twin = classes.setdefault((new.hook, new.cls), new)
        if twin is not new and old is new:
            yield (
                f'the {new.kind} class {new.cls.__qualname__} has two names: "{twin.name}" from '
                f'{_owner(twin)} and "{new.name}" from {_owner(new)}'
            )


def _owner(component: Component) -> str:
    return f"{component.distribution} {component.version} ({component.plugin})"
