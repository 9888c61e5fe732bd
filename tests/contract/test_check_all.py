from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from mdmkit import component, hookimpl, option
from mdmkit.builtin.corpora.text import Text
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.errors import PluginError
from mdmkit.installed import Source, sources_of
from mdmkit.protocols import RunFacts, TimeSampler
from mdmkit.testing import ContractsError, check_all, contract_cases


@frozen(kw_only=True)
class Around:
    """Another time sampler, unchanged: a component inside of a component."""

    inner: TimeSampler = component("bell", doc="which")

    def build(self, facts: RunFacts) -> Any:
        return facts.live(self.inner)


@frozen(kw_only=True)
class Wide(Bell):
    """A bell that must be told its width."""

    width: float = option(gt=0, doc="standard deviation")

    def at(self, step: int) -> Wide:
        return self


class Plugin:
    """A plugin object that registers what it is given."""

    def __init__(self, **classes: type) -> None:
        self.classes = classes

    @hookimpl
    def mdmkit_time_samplers(self) -> Mapping[str, type]:
        return self.classes


def failures(plugin: Any, **arguments: Any) -> dict[str, str]:
    with pytest.raises(ContractsError) as caught:
        check_all(plugin, **arguments)
    return {place: str(error) for place, error in caught.value.errors.items()}


def test_a_component_gets_what_a_recipe_gives_it_by_its_name_alone() -> None:
    check_all(Plugin(around=Around))


def test_a_required_option_asks_for_an_example() -> None:
    (message,) = failures(Plugin(wide=Wide)).values()
    assert 'time sampler "wide"' in message
    assert "contract_examples(directory) in the plugin's module" in message
    assert "width: missing" in message
    check_all(Plugin(wide=Wide), examples=[Wide(width=0.1), (Wide(width=2.0), {"steps": (3,)})])


def test_examples_have_names_of_their_own(tmp_path: Path) -> None:
    class Examples(Plugin):
        def contract_examples(self, directory: Path) -> Any:
            yield Wide(width=0.1, floor=0.5)
            yield Wide(width=0.1, floor=0.5), {"steps": (1,)}
            yield Around(inner=Uniform())
            yield Around(inner=Bell())

    class Corpora:
        @hookimpl
        def mdmkit_corpora(self) -> Mapping[str, type]:
            return {"mine": Mine}

        def contract_examples(self, directory: Path) -> Any:
            for name in ("a.txt", "b" * 40 + ".txt"):
                (directory / name).write_text("text")
                yield Mine(train=str(directory / name))

    @frozen(kw_only=True)
    class Mine(Text):
        """Files."""

    wide, around = "wide[floor=0.5,width=0.1]", ("around[inner=Uniform]", "around[inner=Bell]")
    for plugin, expected in (
        (Examples(wide=Wide, around=Around), [wide, f"{wide}#2", *around]),
        (Corpora(), ["mine[train=a.txt]", f"mine[train={'b' * 23}…]"]),
    ):
        source = Source(
            distribution="mine", version="1", entry="mine", load=lambda plugin=plugin: plugin
        )
        cases = list(contract_cases([source], directory=tmp_path))
        assert [case.place.partition("::")[2] for case in cases] == expected
        for case in cases:
            case.run()


def test_a_misspelt_hook_and_an_unmarked_one_are_found() -> None:
    class Misspelt:
        @hookimpl
        def mdmkit_time_sampler(self) -> Mapping[str, type]:
            return {}

    class Unmarked:
        def mdmkit_time_samplers(self) -> Mapping[str, type]:
            return {}

    (message,) = failures(Misspelt()).values()
    assert "no hook 'mdmkit_time_sampler'; did you mean \"mdmkit_time_samplers\"?" in message
    (message,) = failures(Unmarked()).values()
    assert "not marked with @mdmkit.hookimpl" in message


def test_a_mapping_that_is_empty_or_takes_a_name_of_ours_is_found() -> None:
    (message,) = failures(Plugin()).values()
    assert "a plugin registers components" in message
    (message,) = failures(Plugin(bell=Wide)).values()
    assert 'two components provide the time sampler "bell"' in message


def test_examples_that_raise_or_are_of_another_plugin_are_found() -> None:
    class Raises(Plugin):
        def contract_examples(self, directory: Path) -> Any:
            raise OSError("no space left")

    class Strange(Plugin):
        def contract_examples(self, directory: Path) -> Any:
            return [Bell()]

    found = failures(Raises(around=Around))
    assert found == {"contract_examples::Raises": "no space left"}
    (message,) = failures(Strange(around=Around)).values()
    assert "contract_examples yields components of the plugin" in message
    assert "Bell(centre=0.5" in message


def test_a_corpus_is_read_in_the_splits_that_it_does_not_refuse(tmp_path: Path) -> None:
    @frozen(kw_only=True)
    class Nowhere(Text):
        """Files that are not set."""

    class Corpora:
        @hookimpl
        def mdmkit_corpora(self) -> Mapping[str, type]:
            return {"nowhere": Nowhere}

    (message,) = failures(Corpora()).values()
    assert "a split can be had" in message
    assert "data.corpus.train: not set" in message
    path = tmp_path / "some.txt"
    path.write_text("some text")
    check_all(Corpora(), examples=[Nowhere(validation=str(path))])


def test_sources_are_those_of_one_distribution() -> None:
    assert {source.distribution for source in sources_of("MDMKIT")} == {"mdmkit"}
    with pytest.raises(PluginError, match='no distribution "mdmkitt" is installed; did you mean'):
        sources_of("mdmkitt")
