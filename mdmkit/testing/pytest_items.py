"""The tests behind ``--mdmkit-contract``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import frozen

from mdmkit.errors import MissingPackageError, PluginError
from mdmkit.installed import Source, sources_of
from mdmkit.testing.errors import ContractError, explain
from mdmkit.testing.pytest_plugin import OPTION

ROOT = "mdmkit-contract"
FOLDERS = pytest.StashKey[list[TemporaryDirectory[str]]]()
SOURCES = pytest.StashKey[dict[str, tuple[Source, ...]]]()


def find_distributions(config: pytest.Config) -> None:
    """Look up the distributions that were asked for; MDMKIT_PLUGINS does not matter to them.

    Raises:
        pytest.UsageError: where one is not installed or has no plugins.
    """
    found: dict[str, tuple[Source, ...]] = {}
    for name in config.option.mdmkit_contract:
        try:
            sources = sources_of(name)
        except PluginError as error:
            raise pytest.UsageError(f"{OPTION}: {error}") from error
        found[sources[0].distribution] = sources
    config.stash[SOURCES] = found


def collectors(session: pytest.Session) -> Iterator[pytest.Collector]:
    """One collector a distribution."""
    for distribution, sources in session.config.stash[SOURCES].items():
        yield ContractCollector.from_parent(
            session, name=distribution, nodeid=f"{ROOT}::{distribution}", sources=sources
        )


def clean_up(session: pytest.Session) -> None:
    """Remove the folders of examples. (In a worker of xdist a clean-up of config is too late.)"""
    for folder in session.config.stash.get(FOLDERS, []):
        folder.cleanup()


class ContractCollector(pytest.Collector):
    """The contract checks of one distribution."""

    def __init__(self, *, sources: tuple[Source, ...], **kwargs: Any) -> None:
        """Collect from these plugins."""
        super().__init__(**kwargs)
        self.sources = sources

    def collect(self) -> Iterable[pytest.Item]:
        """A test for each component and example."""
        from mdmkit.testing.cases import contract_cases

        folder = TemporaryDirectory(prefix="mdmkit-contract-")
        self.config.stash.setdefault(FOLDERS, []).append(folder)
        directory = Path(folder.name)
        hook = self.config.hook.pytest_mdmkit_contract_examples
        examples = [example for some in hook(directory=directory) for example in some or ()]
        for case in contract_cases(self.sources, directory=directory, examples=examples):
            yield ContractItem.from_parent(self, name=case.place, run=case.run)


class ContractItem(pytest.Item):
    """One contract check."""

    def __init__(self, *, run: Any, **kwargs: Any) -> None:
        """Keep the check for later."""
        super().__init__(**kwargs)
        self.run = run

    def runtest(self) -> None:
        """Check; what needs a package that is not installed is skipped."""
        try:
            self.run()
        except MissingPackageError as error:
            pytest.skip(str(error))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> Any:
        """Clause and numbers, or what the component raised and where; nothing of our insides."""
        error = excinfo.value
        short = error.clause if isinstance(error, ContractError) else type(error).__name__
        return Shown(explain(error), Crash(short))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands: in no file, so in the folder that pytest runs in."""
        return self.config.rootpath, None, self.nodeid


@frozen
class Crash:
    """What pytest's summary takes its one line from."""

    message: str


@frozen
class Shown:
    """A failure as text, in the shape that pytest's reports ask for."""

    text: str
    reprcrash: Crash

    def __str__(self) -> str:
        return self.text

    def toterminal(self, tw: Any) -> None:
        """Write it."""
        for line in self.text.splitlines():
            tw.line(line, red=True)
