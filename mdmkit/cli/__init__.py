"""The command line: ``mdmkit COMMAND``."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence

from mdmkit.errors import MdmkitError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PATIENCE = 20.0
"""Seconds that another process than the first waits before it says what is wrong. What ended the
first as well is said by it, and torch's launcher ends the others in the meantime."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    What the user can mend is said in words on stderr, without a traceback.

    Args:
        arguments: those of the command line; the process's own by default.

    Returns:
        The exit status: 0, 2 for a mistake in recipe, plugin, data or arguments, 1 for a run that
        failed, 130 for Ctrl-C.
    """
    from mdmkit.cli.app import app
    from mdmkit.cli.plugin_commands import with_plugin_commands

    # Threads that spin while they wait take the core that the others wait for, wherever anything
    # else runs; beside one busy process that makes a step on a CPU several times longer. It must
    # be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character gets "?" for it
            stream.reconfigure(errors="replace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with_plugin_commands(app, words, os.environ)(args=words, prog_name="mdmkit")
    except MdmkitError as error:
        if not error.everywhere:
            _let_the_first_speak()
        if not error.everywhere or _first():
            print(error, file=sys.stderr)  # noqa: T201 - this is the place that prints
        return error.exit_code
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = error.filename or "the output"  # a disk can also fill up under `> file`
        print(f"{where}: cannot be written ({error.strerror}); make room", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    except SystemExit as leave:  # how typer ends, well or not
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except Exception:  # whatever it is, it may come from the first process having left
        _let_the_first_speak()
        raise
    return 0


def _first() -> bool:
    """Whether this is a process by itself, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _let_the_first_speak() -> None:
    if not _first():
        time.sleep(_PATIENCE)
