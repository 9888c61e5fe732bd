"""Everything there is to check about plugins, as a list.

Which options of a component are tried is the author's to say, by a function of this name in the
plugin's module (in a conftest.py it is the hook ``pytest_mdmkit_contract_examples``)::

    def contract_examples(directory):
        yield Triangle()
        yield Triangle(power=0.5)
        yield Letters(path=directory / "letters"), {"splits": ("train",)}

Each example is a component, or a pair of a component and the arguments of its check. A component
without examples is tried with the options that a recipe gives it when it names it and no more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from mdmkit.errors import PluginError
from mdmkit.installed import Source
from mdmkit.installed import builtin_sources as builtins
from mdmkit.plugins import BrokenPlugin, Catalogue, Component, build_catalogue
from mdmkit.problems import StructureError
from mdmkit.structuring import make_converter
from mdmkit.testing.checks import check_component
from mdmkit.testing.errors import ContractError
from mdmkit.testing.options import check_options

EXAMPLES = "contract_examples"
"""The function of a plugin's module that says what to try."""
PACKAGE = Path(__file__).parents[1]
_LONG = 24


@frozen(kw_only=True)
class Case:
    """One thing to check.

    Attributes:
        place: where it belongs, such as ``time_samplers::triangle[power=0.5]``.
        run: checks it; raises `ContractError`, or whatever the component raises.
    """

    place: str
    run: Callable[[], None]


def contract_cases(
    sources: Iterable[Source], *, directory: Path, examples: Iterable[Any] = ()
) -> Iterator[Case]:
    """Every component of some plugins with every example, and what is wrong with the plugins.

    Args:
        sources: the plugins, such as `mdmkit.plugins.sources_of` a distribution.
        directory: an empty directory, where ``contract_examples`` can write files.
        examples: more examples; those of other plugins' classes are left out.
    """
    sources, examples = list(sources), list(examples)
    ours = {source.entry for source in sources}
    try:
        catalogue = build_catalogue([*(s for s in builtins() if s.entry not in ours), *sources])
    except PluginError as error:
        about = ", ".join(sorted({source.distribution for source in sources}))
        clause = "a name in a hook, and a class, belong to one component"
        yield Case(place="plugin", run=partial(_break, about, clause, str(error)))
        return
    broken = {(plugin.distribution, plugin.entry): plugin for plugin in catalogue.broken}
    for source in sources:
        key = (source.distribution, source.entry)
        own = [c for c in catalogue.components if (c.distribution, c.plugin) == key]
        if own:
            yield from _cases_of(source, own, examples, catalogue, directory)
        else:
            yield _empty_case(source, broken.get(key))


def _empty_case(source: Source, broken: BrokenPlugin | None) -> Case:
    """The case of a plugin that provides nothing."""
    about = f"plugin {source.entry} of {source.distribution} {source.version}"
    clause, found = "a plugin registers components", "its hooks return empty mappings"
    if broken is not None:
        clause = "a plugin can be imported, and its hooks return what mdmkit.hookspecs says"
        found = "\n".join([broken.error, *_origin(broken)])
    return Case(place=f"plugin::{source.entry}", run=partial(_break, about, clause, found))


def _origin(broken: BrokenPlugin) -> list[str]:
    """Where the plugin itself failed, if it was not us who found fault with it."""
    places = re.findall(r'File "(.+)", line (\d+), in (.+)\n', broken.traceback)
    return [
        f"{file}:{line}, in {name}"
        for file, line, name in places[-1:]
        if not file.startswith("<") and not Path(file).is_relative_to(PACKAGE)
    ]


def _break(about: str, clause: str, found: str) -> None:
    raise ContractError(about, clause, found)


def _cases_of(
    source: Source,
    components: list[Component],
    more: list[Any],
    catalogue: Catalogue,
    directory: Path,
) -> Iterator[Case]:
    """The components of one plugin."""
    try:
        given = [_pair(example) for example in _examples(source, directory)]
    except Exception as error:  # a stranger's function may raise anything
        yield Case(place=f"{EXAMPLES}::{source.entry}", run=partial(_reraise, error))
        given = []
    classes = {component.cls for component in components}
    strange = [component for component, _ in given if type(component) not in classes]
    for component in strange:
        clause = f"{EXAMPLES} yields components of the plugin, or pairs (component, settings)"
        run = partial(_break, f"plugin {source.entry}", clause, repr(component))
        yield Case(place=f"{EXAMPLES}::{source.entry}", run=run)
    given += [_pair(example) for example in more]
    for component in components:
        mine = [(c, settings) for c, settings in given if type(c) is component.cls]
        place = f"{component.hook.removeprefix('mdmkit_')}::{component.name}"
        if mine:
            for label, (example, settings) in zip(_labels(mine, directory), mine, strict=True):
                run = partial(check_component, component.hook, example, **settings)
                yield Case(place=place + label, run=run)
        else:
            yield Case(place=place, run=partial(_check_default, component, catalogue))


def _examples(source: Source, directory: Path) -> list[Any]:
    function = getattr(source.load(), EXAMPLES, None)
    return [] if function is None else list(function(directory))


def _reraise(error: Exception) -> None:
    raise error


def _pair(example: Any) -> tuple[Any, Mapping[str, Any]]:
    if isinstance(example, tuple) and len(example) == 2:
        component, settings = example
        return component, dict(settings)
    return example, {}


def _check_default(component: Component, catalogue: Catalogue) -> None:
    """Check the class, and its component with what a recipe gets by ``use = "<name>"`` alone."""
    check_options(component.cls)
    try:
        made: Any = make_converter(catalogue).structure({}, component.cls)
    except StructureError as error:
        raise ContractError(
            f'{component.kind} "{component.name}"',
            f"a component with required options has examples to check: {EXAMPLES}(directory) in "
            f"the plugin's module, or pytest_mdmkit_{EXAMPLES}(directory) in conftest.py",
            str(error),
        ) from error
    check_component(component.hook, made)


def _labels(examples: list[tuple[Any, Mapping[str, Any]]], directory: Path) -> list[str]:
    """``[width=0.1]``, ``[defaults]``, … for the examples of one component, each once."""
    if len(examples) == 1:
        return [""]
    labels: list[str] = []
    for component, _ in examples:
        label = f"[{','.join(_changes(component, directory)) or 'defaults'}]"
        twins = sum(other.partition("#")[0] == label for other in labels)
        labels.append(f"{label}#{twins + 1}" if twins else label)
    return labels


def _changes(component: Any, directory: Path) -> Iterator[str]:
    """The options that are not at their defaults, in few words."""
    for field in attrs.fields(type(component)):
        value = getattr(component, field.name)
        if not field.init or value == field.default:
            continue
        if isinstance(field.default, attrs.Factory) and value == field.default.factory():  # type: ignore[arg-type]
            continue
        yield f"{field.name}={_shown(value, directory)}"


def _shown(value: Any, directory: Path) -> str:
    """A value in an id: the same in every process and on every machine, and short."""
    if isinstance(value, str | Path):
        text = os.fspath(value).replace(f"{directory}{os.sep}", "")
    elif isinstance(value, bool | int | float):
        text = str(value)
    else:
        text = type(value).__name__
    text = text.replace("::", ":")
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
