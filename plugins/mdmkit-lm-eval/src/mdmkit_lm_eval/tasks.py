"""Finds and opens tasks of the harness."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdmkit import DataError, RecipeError
from mdmkit.suggest import did_you_mean

FEWSHOT_SEED = 1234
"""The harness's own, so that prompts are the same as everywhere."""
MOST = 2**53
"""Documents; floats count no further."""


def check_limit(limit: float | None) -> None:
    """Refuse a limit that is none.

    Raises:
        RecipeError: where it is not a share below 1, or a whole number from 1 to `MOST`.
    """
    if limit is not None and not (0 < limit < 1 or (1 <= limit <= MOST and limit % 1 == 0)):
        raise RecipeError(
            f"--limit: expected a number of documents, or a share such as 0.1; got {limit:g}"
        )


def load_tasks(
    names: Sequence[str], *, include: Sequence[Path] = (), fewshot: int | None = None
) -> dict[str, Any]:
    """Find and open tasks.

    Args:
        names: of tasks, groups or tags of the harness, with ``*``; or YAML files.
        include: folders of more tasks. The harness's own are only read, which takes seconds,
            where one of the names is not there.
        fewshot: examples in front of each question, where the task does not fix it.

    Raises:
        RecipeError: for a name that is none.
        DataError: where a task or its data cannot be had.
    """
    from lm_eval.tasks import TaskManager

    for folder in include:
        if not folder.is_dir():
            raise RecipeError(f"--include-path: no folder {folder}")
    folders = [str(folder) for folder in include]
    manager = TaskManager(include_path=folders or None, include_defaults=False)
    if all(name in manager.all_tasks or Path(name).is_file() for name in names):
        with contextlib.suppress(_MoreNeededError):
            return _loaded(names, manager, fewshot)
    return _loaded(names, TaskManager(include_path=folders or None), fewshot)


class _MoreNeededError(DataError):
    """A group names tasks that are not in the folders."""


def _loaded(names: Sequence[str], manager: Any, fewshot: int | None) -> dict[str, Any]:
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in _known(names, manager):
        try:
            found = manager.load([name])
        except Exception as error:  # a task is others' code and data: anything may go wrong
            kind = _MoreNeededError if isinstance(error, KeyError) else DataError
            raise kind(
                f"task {name}: cannot be opened ({type(error).__name__}: {first_line(error)}); "
                "its data may be out of reach: tasks of local files work without a network "
                "(--include-path)"
            ) from error
        for part, values in loaded.items():
            values.update(found.get(part, {}))
    for name, task in loaded["tasks"].items():
        _refuse(name, task)
        prepare(task, fewshot)
    return loaded


def _known(names: Sequence[str], manager: Any) -> list[str]:
    """The names, patterns filled in.

    Raises:
        RecipeError: for one that is no task.
    """
    chosen: list[str] = []
    problems: list[str] = []
    for name in names:
        fitting = [name] if Path(name).is_file() else manager.match_tasks([name])
        chosen += fitting
        if not fitting:
            hint = did_you_mean(name, manager.all_tasks)
            problems.append(
                f'--tasks: no task "{name}"{hint} (lm-eval ls tasks lists those of the harness)'
            )
    if not names:
        problems.append("--tasks: missing; expected names of tasks, with commas between them")
    if problems:
        raise RecipeError(problems)
    return list(dict.fromkeys(chosen))


def _refuse(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise RecipeError(
            f"--tasks: {name} runs code that the run generates, which is not done here; the "
            "harness's own command can: python -m mdmkit_lm_eval … --confirm_run_unsafe_code"
        )
    if getattr(task, "MULTIMODAL", False):
        raise RecipeError(f"--tasks: {name} is about more than text")


def prepare(task: Any, fewshot: int | None) -> None:
    """The number of examples, as the harness's ``simple_evaluate`` sets it."""
    own = task.get_config("num_fewshot")
    if own != 0 and (fewshot is not None or own is None):
        task.set_config(key="num_fewshot", value=fewshot or 0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)


def first_line(error: BaseException) -> str:
    """Of what an error says."""
    return (str(error).strip().splitlines() or [""])[0]
