from __future__ import annotations

import inspect
import re
import textwrap

import pytest

from mdmkit import API_VERSION, OLDEST_API, hookspecs
from mdmkit.builtin.time_samplers import mdmkit_time_samplers
from mdmkit.contracts import HOOKS
from mdmkit.errors import PluginError
from mdmkit.installed import BUILTINS
from mdmkit.plugins import load_catalogue

PRELUDE = """
from typing import TYPE_CHECKING, ClassVar
import attrs
from attrs import frozen
from mdmkit import hookimpl
"""
SCHEDULE = """
@frozen(kw_only=True)
class Straight:
    def alpha(self, t): return 1 - t
    def dalpha(self, t): return -1 + 0 * t
"""


def provide(body: str, result: str, hook: str = "mdmkit_noise_schedules") -> str:
    return f"{PRELUDE}{body}\n@hookimpl\ndef {hook}():\n    return {result}\n"


def own(components):
    return [c for c in components if c.distribution == "mdmkit"]


def strangers(catalogue):
    return [c for c in catalogue.components if c.distribution != "mdmkit"]


def test_every_specification_is_an_extension_point_with_members():
    specs = {name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction)}
    assert {name for name in specs if name.startswith("mdmkit_")} == set(HOOKS)
    assert HOOKS["mdmkit_noise_schedules"].members == {"alpha", "dalpha"}
    assert HOOKS["mdmkit_denoisers"].members == {"supports", "length_multiple", "build"}


def test_our_own_components_load_by_the_same_path_and_belong_to_us():
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "none"})
    assert catalogue.broken == ()
    assert {c.plugin for c in catalogue.components} == set(BUILTINS)
    assert {c.distribution for c in catalogue.components} == {"mdmkit"}
    assert {c.hook for c in catalogue.components} == set(HOOKS)
    names = list(catalogue.of("mdmkit_time_samplers"))
    assert set(names) == set(mdmkit_time_samplers())
    assert names == sorted(names)


def test_loading_twice_gives_the_same_and_leaves_no_state():
    assert load_catalogue({}) == load_catalogue({})


def test_an_installed_plugin_is_loaded_with_its_owner(distribution, triangle):
    distribution("mdmkit-triangle", triangle, version="0.3", entry="tri")
    (component,) = strangers(load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"}))
    assert (component.name, component.kind) == ("triangle", "time sampler")
    assert (component.distribution, component.version) == ("mdmkit-triangle", "0.3")
    assert component.plugin == "tri"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import module_that_is_not_there", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Odd(BaseException): pass\nraise Odd('no')", "Odd: no"),
        ("", "implements no hook"),
        (
            PRELUDE + "@hookimpl\ndef mdmkit_time_sampler(): return {}",
            "no hook 'mdmkit_time_sampler'; did you mean \"mdmkit_time_samplers\"?",
        ),
        (
            PRELUDE + "@hookimpl\ndef mdmkit_samplers(recipe): return {}",
            "can not be found in the hookspec",
        ),
        ("def mdmkit_samplers(): return {}", "mdmkit_samplers is not marked with @mdmkit.hookimpl"),
        (
            PRELUDE + "@hookimpl(wrapper=True)\ndef mdmkit_samplers():\n    return (yield)",
            "wrappers are not supported",
        ),
        (provide("", "1 / 0"), "ZeroDivisionError"),
        (provide("", "[1]"), "expected a mapping of names to classes, got list"),
        (provide(SCHEDULE, "{'a b': Straight}"), "bad name 'a b'"),
        (provide(SCHEDULE, "{3: Straight}"), "bad name 3"),
        (provide(SCHEDULE, "{'x': Straight()}"), "x: expected a class"),
        (provide("class Plain: pass", "{'x': Plain}"), "is not an attrs class"),
        (
            provide(SCHEDULE.replace("@frozen", "@attrs.define"), "{'x': Straight}"),
            "is not frozen",
        ),
        (
            provide(
                SCHEDULE.replace("class Straight:", "class Straight:\n    n: int = 1").replace(
                    "(kw_only=True)", ""
                ),
                "{'x': Straight}",
            ),
            "takes n by position",
        ),
        (
            provide(SCHEDULE.replace("def dalpha", "def derivative"), "{'x': Straight}"),
            "lacks dalpha, or build(facts) instead of them all: see mdmkit.protocols.NoiseSchedule",
        ),
        (
            provide(SCHEDULE, "{'x': Straight}", "mdmkit_corpora"),
            "lacks describe, documents, finge",
        ),
        (provide(SCHEDULE, "{'x': Straight, 'y': Straight}"), "has two names: x and y"),
        (
            provide(
                SCHEDULE.replace("class Straight:", "class Straight:\n    use: int = 1"),
                "{'x': Straight}",
            ),
            "has an option called use",
        ),
        (
            provide(
                "if TYPE_CHECKING:\n    from fractions import Fraction\n"
                + SCHEDULE.replace("class Straight:", "class Straight:\n    f: 'Fraction' = 1"),
                "{'x': Straight}",
            ),
            "has an option whose type is unknown at run time",
        ),
    ],
)
def test_a_broken_plugin_is_kept_aside_and_the_others_go_on(distribution, triangle, code, error):
    distribution("mdmkit-broken", code, version="2.0", entry="bad")
    distribution("mdmkit-triangle", triangle)
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-broken,mdmkit-triangle"})
    assert [c.name for c in strangers(catalogue)] == ["triangle"]
    assert len(own(catalogue.components)) > 10
    (broken,) = catalogue.broken
    assert (broken.distribution, broken.version, broken.entry) == ("mdmkit-broken", "2.0", "bad")
    assert error in broken.error
    assert "Traceback" in broken.traceback
    assert broken.describe().startswith("mdmkit-broken 2.0 (bad) could not be loaded: ")


@pytest.mark.parametrize("stated", ["API_VERSION", "OLDEST_API", "None"])
def test_a_plugin_for_this_api_is_loaded(distribution, triangle, stated):
    names = "from mdmkit import API_VERSION, OLDEST_API"
    code = f"{textwrap.dedent(triangle)}\n{names}\nMDMKIT_API = {stated}"
    distribution("mdmkit-triangle", code)
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"})
    assert ([c.name for c in strangers(catalogue)], catalogue.broken) == (["triangle"], ())


@pytest.mark.parametrize("line", ["", "from mdmkit import a_name_of_the_future"])
@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (99, f"for version 99 of the plugin API, mdmkit .* has version {API_VERSION}: upgrade mdm"),
        (0, f"for version 0 of the plugin API, .* to version {OLDEST_API} only: upgrade the plug"),
    ],
)
def test_a_plugin_for_another_api_is_kept_aside(distribution, triangle, version, reason, line):
    code = f"MDMKIT_API = {version}  # of the plugin API\n{line}\n{textwrap.dedent(triangle)}"
    distribution("mdmkit-triangle", code)
    (broken,) = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"}).broken
    assert re.search(reason, broken.error)


def test_a_keyboard_interrupt_is_no_broken_plugin(distribution):
    distribution("mdmkit-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_catalogue({"MDMKIT_PLUGINS": "mdmkit-slow"})


def rewritten(root, text):
    (entries,) = root.glob("*.dist-info/entry_points.txt")
    entries.write_text(text.format(module=root.name))


def test_an_object_of_a_module_is_for_the_api_of_the_module(distribution, triangle):
    code = f"{textwrap.dedent(triangle)}\nimport types\nMDMKIT_API = 99\n"
    code += "plugin = types.SimpleNamespace(mdmkit_time_samplers=mdmkit_time_samplers)"
    root = distribution("mdmkit-triangle", code)
    rewritten(root, "[mdmkit]\no = {module}:plugin\n")
    (broken,) = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"}).broken
    assert "it was made for version 99 of the plugin API" in broken.error


def test_a_malformed_entry_point_breaks_its_own_plugin_alone(distribution, triangle):
    rewritten(distribution("mdmkit-odd", ""), "[mdmkit]\nodd = my-odd-module\n")
    distribution("mdmkit-triangle", triangle)
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-odd,mdmkit-triangle"})
    assert [c.name for c in strangers(catalogue)] == ["triangle"]
    assert [(b.distribution, b.entry) for b in catalogue.broken] == [("mdmkit-odd", "odd")]


def test_a_torn_file_of_a_stranger_does_not_matter(distribution, triangle):
    rewritten(distribution("stranger", ""), "[console_scripts]\nfoo\n")
    distribution("mdmkit-triangle", triangle)
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"})
    assert [c.name for c in strangers(catalogue)] == ["triangle"]


def test_an_api_version_is_a_whole_number(distribution, triangle):
    distribution("mdmkit-triangle", f"MDMKIT_API = '1'\n{textwrap.dedent(triangle)}")
    (broken,) = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"}).broken
    assert broken.error == "MDMKIT_API: expected a whole number such as 1, got '1'"


def test_all_breaches_of_a_plugin_are_told_at_once(distribution):
    body = "class Plain: pass\n" + SCHEDULE.replace("def dalpha", "def derivative")
    distribution("mdmkit-broken", provide(body, "{'p': Plain, '?': Straight}"))
    (broken,) = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-broken"}).broken
    assert len(broken.error.splitlines()) == 3


def test_build_stands_for_the_live_members_only_where_the_contract_says_so(distribution):
    body = "@frozen(kw_only=True)\nclass Late:\n    def build(self, facts): return self\n"
    distribution("mdmkit-late", provide(body, "{'late': Late}"))
    distribution("mdmkit-late-corpus", provide(body, "{'late': Late}", "mdmkit_corpora"))
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-late,mdmkit-late-corpus"})
    assert [c.hook for c in strangers(catalogue)] == ["mdmkit_noise_schedules"]
    assert [b.distribution for b in catalogue.broken] == ["mdmkit-late-corpus"]


@pytest.mark.parametrize("slots", [True, False])
def test_a_member_may_be_an_option(distribution, slots):
    body = (
        f"@frozen(kw_only=True, slots={slots})\nclass Weight:\n    normalizer: str\n"
        "    def weight(self, **_): return 1\n"
    )
    distribution("mdmkit-weight", provide(body, "{'w': Weight}", "mdmkit_loss_weightings"))
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-weight"})
    assert [c.name for c in strangers(catalogue)] == ["w"]


def test_two_distributions_with_one_name_are_an_error_that_names_both(distribution, triangle):
    distribution("mdmkit-one", triangle)
    distribution("mdmkit-two", triangle)
    with pytest.raises(PluginError, match=r'time sampler "triangle".*mdmkit-one.*mdmkit-two'):
        load_catalogue({"MDMKIT_PLUGINS": "mdmkit-one,mdmkit-two"})


def test_a_plugin_cannot_take_the_name_of_one_of_ours(distribution, triangle):
    distribution("mdmkit-taker", triangle.replace('"triangle"', '"bell"'))
    with pytest.raises(PluginError, match=r'"bell": mdmkit .* and mdmkit-taker 1\.0'):
        load_catalogue({"MDMKIT_PLUGINS": "mdmkit-taker"})


def test_a_class_of_ours_under_a_second_name_is_an_error(distribution):
    body = "from mdmkit.builtin.schedules import Linear\n"
    distribution("mdmkit-alias", provide(body, "{'straight': Linear}"))
    with pytest.raises(PluginError, match=r'two names: "linear" from mdmkit.*"straight" from'):
        load_catalogue({"MDMKIT_PLUGINS": "mdmkit-alias"})


def test_the_environment_restricts_what_is_loaded(distribution, triangle):
    distribution("mdmkit-triangle", triangle)
    distribution("mdmkit-broken", "1 / 0")
    assert strangers(load_catalogue({"MDMKIT_PLUGINS": "none"})) == []
    only = load_catalogue({"MDMKIT_PLUGINS": " MDMKIT_Triangle ,"})
    assert [c.name for c in strangers(only)] == ["triangle"]
    assert only.broken == ()
    everything = load_catalogue({"MDMKIT_PLUGINS": ""})
    assert [b.distribution for b in everything.broken] == ["mdmkit-broken"]


def test_a_restriction_to_what_is_not_there_is_an_error(distribution, triangle):
    distribution("mdmkit-triangle", triangle)
    with pytest.raises(PluginError, match=r'"mdmkit-triangel".*did you mean "mdmkit-triangle"'):
        load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangel"})


def test_a_distribution_that_is_found_twice_counts_once(distribution, triangle):
    distribution("mdmkit-triangle", triangle, version="1.0")
    distribution("mdmkit_Triangle", triangle, version="2.0")  # prepended: import finds it first
    (component,) = strangers(load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"}))
    assert component.version == "2.0"


def test_one_object_behind_two_entry_points_is_an_error(distribution, triangle):
    root = distribution("mdmkit-triangle", triangle, entry="first")
    (entries,) = root.glob("*.dist-info/entry_points.txt")
    module = next(root.glob("plugin_*.py")).stem
    entries.write_text(f"[mdmkit]\nfirst = {module}\nsecond = {module}\n")
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "mdmkit-triangle"})
    assert [c.plugin for c in strangers(catalogue)] == ["first"]
    assert "already registered as 'mdmkit-triangle:first'" in catalogue.broken[0].error
