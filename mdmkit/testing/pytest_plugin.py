"""``pytest --mdmkit-contract mdmkit-yourplugin``: contract checks of all that a plugin registers.

The option needs no test files and goes along with those there are. Every component of the
distribution becomes a test (several, where the author gives examples), with ids such as
``mdmkit-contract::mdmkit-kumaraswamy::time_samplers::kumaraswamy``; ``-k`` picks among them.

pytest loads this module at every start, so it imports nothing more until the option is given.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

OPTION = "--mdmkit-contract"


class ContractHooks:
    """What a conftest.py can implement."""

    def pytest_mdmkit_contract_examples(self, directory: Path) -> Any:
        """The components to check, or pairs (component, settings of its check).

        For components with required options, small networks, files of a corpus. The same as a
        function ``contract_examples(directory)`` in the plugin's module, and added to it.

        Args:
            directory: an empty directory for files, which is removed at the end.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("mdmkit").addoption(
        OPTION,
        action="append",
        default=[],
        metavar="DISTRIBUTION",
        dest="mdmkit_contract",
        help="check the contracts of all that this installed distribution registers with mdmkit "
        "(repeatable; mdmkit itself: its built-in components)",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hook for examples."""
    pluginmanager.add_hookspecs(ContractHooks)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse distributions that have no plugins before anything runs."""
    if config.option.mdmkit_contract:
        from mdmkit.testing.pytest_items import find_distributions

        find_distributions(config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Put the contract checks after the tests that pytest itself finds."""
    report = yield
    wanted = collector.config.option.mdmkit_contract
    if wanted and isinstance(collector, pytest.Session) and report.passed:
        from mdmkit.testing.pytest_items import collectors

        report.result = [*report.result, *collectors(collector)]
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove what the checks were given to read."""
    if session.config.option.mdmkit_contract:
        from mdmkit.testing.pytest_items import clean_up

        clean_up(session)
