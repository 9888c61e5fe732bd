"""What the tests of this folder share: how many cases, how they are made, and what is watched.

``MDMKIT_FUZZ_EXAMPLES=50 pytest tests/fuzz -o timeout=0`` tries fifty times as many.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mdmkit.errors import MdmkitError

TIMES = int(os.environ.get("MDMKIT_FUZZ_EXAMPLES", "1"))
_PATIENCE = 120  # seconds for a single case; one that takes as long hangs


def cases(number: int) -> Callable[[Any], Any]:
    """The settings of a test that tries `number` cases, the same ones each time."""
    return settings(
        max_examples=number * TIMES,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


# --- making things up ----------------------------------------------------------------------

WORDS = (
    *("", "use", "extends", "none", "uniform", "dit", "os", "os.system", "builtins.eval"),
    *("__class__", "__init__", "__reduce__", "__globals__", "__dict__", "../..", "/etc/passwd"),
    *("a/b", "~", "a\0b", "\N{SNOWMAN}", "x" * 5000, "mdmkit.builtin", "subprocess:run", "{0}"),
    *("/dev/zero", "tests.fuzz.canary", "$(touch canary)", "-1", "1e400", "NaN", "step", "\ud800"),
)
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(WORDS),
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from((2**31, 2**63, -(2**63) - 1, 10**30, 10**400, -(10**4000))),
    st.floats(),
    st.text(max_size=5),
)
_INNER = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=6,
)


def nested(depth: int, *, table: bool) -> Any:
    """Tables or arrays inside each other."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if table else [value]
    return value


TREES: st.SearchStrategy[Any] = st.one_of(
    _INNER, st.builds(nested, st.sampled_from((1, 31, 40, 200)), table=st.booleans())
)
FOR_TOML: st.SearchStrategy[Any] = st.one_of(
    TREES, st.dates(), st.times(), st.datetimes(), st.just(datetime.timedelta)
)


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    for key, value in list(pairs):
        yield (*above, key)
        if isinstance(value, dict | list) and value:
            yield from _paths(value, (*above, key))


@st.composite
def changed_tree(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any] = TREES) -> Any:
    """`tree` with a few of its values replaced, removed, renamed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(_paths(tree))
        if not paths:
            break
        *above, last = draw(st.sampled_from(paths))
        node = tree
        for key in above:
            node = node[key]
        action = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add")))
        if action == "replace":
            node[last] = draw(values)
        elif action == "remove":
            del node[last]
        elif isinstance(node, dict):
            node[draw(st.sampled_from(WORDS) | st.text(max_size=4))] = draw(values)
    return tree


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes, words: tuple[bytes, ...] = ()) -> bytes:
    """`content` with a few bytes flipped, cut, repeated or put in."""
    found = bytearray(content)
    pieces = st.binary(max_size=8)
    if words:
        pieces = pieces | st.sampled_from(words)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(found)))
        length = draw(st.sampled_from((0, 1, 2, 8, 60)))
        action = draw(st.sampled_from(("put", "over", "cut", "repeat", "end")))
        if action == "put":
            found[place:place] = draw(pieces)
        elif action == "over":
            piece = draw(pieces)
            found[place : place + len(piece)] = piece
        elif action == "cut":
            del found[place : place + length]
        elif action == "repeat":
            found[place:place] = found[place : place + length] * draw(st.integers(1, 4))
        else:
            del found[place:]
    return bytes(found)


# --- watching ------------------------------------------------------------------------------

_DANGEROUS = {
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "ctypes.dlopen",
}
_CHANGING = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Watch:
    """Hears of everything that the interpreter is asked to do, while it is listening."""

    def __init__(self) -> None:
        self.listening = False
        self.events: list[str] = []
        self.inside: tuple[str, ...] = ()

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.listening:
            return
        codec = str(arguments[0]).startswith("encodings.")  # of the standard library
        if (event == "import" and not codec) or event in _DANGEROUS:
            self.events.append(f"{event} {repr(arguments)[:200]}")
        writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if writing or event in _CHANGING:
            self._place(event, arguments[0])

    def _place(self, event: str, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith(self.inside):
                self.events.append(f"{event} {real}")


_WATCH = _Watch()
sys.addaudithook(_WATCH.hear)


def _too_long(*_: object) -> None:
    raise AssertionError(f"a single case takes more than {_PATIENCE} seconds")


@contextlib.contextmanager
def watched(*inside: Path) -> Iterator[None]:
    """Nothing is imported or started in the body, and nothing written but `inside`."""
    _WATCH.events, _WATCH.inside = [], tuple(os.path.realpath(path) for path in inside)
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    _WATCH.listening = True
    try:
        yield
    finally:
        _WATCH.listening = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not _WATCH.events, _WATCH.events


def read_or_refused(function: Callable[[], Any], *inside: Path) -> Any:
    """What `function` gives, or the error of ours that it raises; any other is a failure."""
    with watched(*inside):
        try:
            return function()
        except MdmkitError as error:
            message = str(error)
            assert len(message) < 200_000
            return error
