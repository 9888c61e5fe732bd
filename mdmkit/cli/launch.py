"""Several processes on this machine, by torch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mdmkit.errors import RecipeError

_SAVING = "600"
"""Seconds that the processes get to finish a step and save, when they are asked to stop."""


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run ``mdmkit ARGUMENTS`` in `count` processes that find each other; wait for them.

    Ctrl-C and SIGTERM are handed on, so that they save as a single process does.

    Returns:
        The exit status: that of the first process that failed, 130 where they were asked to stop.

    Raises:
        RecipeError: inside of processes that a launcher has started already.
    """
    if "RANK" in os.environ:
        raise RecipeError(
            "--nproc: starts processes, and this is one of several already; leave it to torchrun"
        )
    # torch's launcher would say in logs and a traceback what the processes say in words.
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SAVING)
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))

    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="mdmkit-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "mdmkit", *arguments)
        except SignalException:
            return 130
        except ChildFailedError as error:
            return _status(error.failures)
    return 0


def _status(failures: Mapping[int, Any]) -> int:
    """The exit status of a failure, the first process's where it has one; 1 for a killed one."""
    for rank, failure in sorted(failures.items()):
        if failure.exitcode > 0:
            return int(failure.exitcode)
        print(f"process {rank} was ended by signal {-failure.exitcode}", file=sys.stderr)  # noqa: T201
    return 1
