"""What a hook's result must be: checked when a plugin is loaded, not in the middle of a run.

The protocol of each hook is read off its specification, so a contract is written down once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import attrs
from attrs import frozen

from mdmkit import hookspecs
from mdmkit.errors import PluginError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@frozen(kw_only=True)
class ExtensionPoint:
    """A hook and what it asks for.

    Attributes:
        hook: its name, such as ``mdmkit_time_samplers``.
        kind: what one of its components is called in messages.
        protocol: the contract of its options classes; a field of this type holds a component.
        members: the names that the protocol asks for.
        may_build: whether a component may have ``build(facts)`` instead of those members.
    """

    hook: str
    kind: str
    protocol: Any
    members: frozenset[str]
    may_build: bool


def _extension_point(hook: str, kind: str, may_build: bool) -> ExtensionPoint:
    returned = get_type_hints(getattr(hookspecs, hook))["return"]
    (protocol,) = get_args(get_args(returned)[1])
    names = {*vars(protocol), *protocol.__annotations__}
    members = frozenset(name for name in names if not name.startswith("_"))
    return ExtensionPoint(
        hook=hook, kind=kind, protocol=protocol, members=members, may_build=may_build
    )


HOOKS: Mapping[str, ExtensionPoint] = {
    hook: _extension_point(hook, kind, may_build)
    for hook, kind, may_build in (
        ("mdmkit_denoisers", "denoiser", False),
        ("mdmkit_noise_schedules", "noise schedule", True),
        ("mdmkit_time_samplers", "time sampler", True),
        ("mdmkit_mask_patterns", "mask pattern", True),
        ("mdmkit_loss_weightings", "loss weighting", True),
        ("mdmkit_objectives", "objective", False),
        ("mdmkit_samplers", "sampler", False),
        ("mdmkit_evaluators", "evaluator", False),
        ("mdmkit_corpora", "corpus", False),
        ("mdmkit_trackers", "tracker", False),
    )
}


def check_components(hook: str, provided: Any) -> Mapping[str, type]:
    """Return what an implementation of `hook` provided, once it is checked.

    Raises:
        PluginError: with every breach of the contract, one line each.
    """
    problems = [f"{hook}: {problem}" for problem in _breaches(HOOKS[hook], provided)]
    if problems:
        raise PluginError("\n".join(problems))
    return dict(provided)


def _breaches(point: ExtensionPoint, provided: object) -> Iterator[str]:
    if not isinstance(provided, Mapping):
        yield f"expected a mapping of names to classes, got {type(provided).__name__}"
        return
    names: dict[type, str] = {}
    for name, cls in provided.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"bad name {name!r}: expected letters, digits and . _ -"
        if not isinstance(cls, type):
            yield f"{name}: expected a class, got {cls!r}"
            continue
        if cls in names:
            yield f"the class {cls.__qualname__} has two names: {names[cls]} and {name}"
        names[cls] = name
        for problem in _class_breaches(point, cls):
            yield f"{name}: {cls.__qualname__} {problem}"


def _class_breaches(point: ExtensionPoint, cls: type) -> Iterator[str]:
    if not attrs.has(cls):
        yield "is not an attrs class: decorate it with @attrs.frozen(kw_only=True)"
        return
    if not _is_frozen(cls):
        yield "is not frozen: decorate it with @attrs.frozen(kw_only=True)"
    fields = attrs.fields(cls)
    positional = [field.name for field in fields if field.init and not field.kw_only]
    if positional:
        yield f"takes {', '.join(positional)} by position: declare it with kw_only=True"
    if any(field.name == "use" for field in fields):
        yield "has an option called use: that key chooses the component"
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        yield (
            f"has an option whose type is unknown at run time ({error}): import it outside "
            "`if TYPE_CHECKING`"
        )
    present = {name for name in dir(cls) if getattr(cls, name, None) is not None}
    present |= {field.name for field in fields}
    missing = sorted(point.members - present)
    if missing and not (point.may_build and "build" in present):
        instead = ", or build(facts) instead of them all" if point.may_build else ""
        yield f"lacks {', '.join(missing)}{instead}: see mdmkit.protocols.{point.protocol.__name__}"


def _is_frozen(cls: type) -> bool:
    """Whether setting an attribute is refused, found out by trying (attrs has no question)."""
    instance: Any = object.__new__(cls)
    try:
        instance.use = None
    except attrs.exceptions.FrozenInstanceError:
        return True
    except (AttributeError, TypeError):
        return False
    return False
