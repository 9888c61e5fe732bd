"""Tensors in files, by name: their shapes at once, their values when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import frozen
from torch import Tensor

from mdmkit import DataError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHOWN = 5
"""How many names of a kind a message has."""

Shape = tuple[int, ...]


@frozen(kw_only=True, eq=False)
class StoredTensors:
    """Tensors of a file, or of several that belong together.

    Attributes:
        where: the file, or its folder, for messages.
        shapes: by name.
        read: the values of one.
        files: what is read.
    """

    where: str
    shapes: Mapping[str, Shape]
    read: Callable[[str], Tensor]
    files: tuple[Path, ...]

    def require(self, wanted: Mapping[str, Shape]) -> None:
        """Hold names and shapes against what a network has, in both directions.

        Raises:
            DataError: with what is missing, what is not known, and what has another shape.
        """
        found = self.shapes
        odd = [
            f"{name} {list(found[name])}, expected {list(shape)}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ]
        problems = {
            "missing": [name for name in wanted if name not in found],
            "not known": [name for name in found if name not in wanted],
            "of another shape": odd,
        }
        lines = [f"  {what}: {_some(names)}" for what, names in problems.items() if names]
        if lines:
            raise DataError("\n".join([f"{self.where}: these are not the weights:", *lines]))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def open_safetensors(folder: Path) -> StoredTensors | None:
    """The weights of a folder in the hub's layout, in one file or several; None: it has none.

    Raises:
        DataError: where a file is missing, damaged, or outside of the folder.
    """
    if (folder / WEIGHTS).is_file():
        return _opened(folder / WEIGHTS, [folder / WEIGHTS])
    if not (folder / INDEX).is_file():
        return None
    by_file = _index(folder / INDEX)
    stored = _opened(folder, [folder / name for name in sorted(set(by_file.values()))])
    if set(stored.shapes) != set(by_file):
        odd = sorted(set(stored.shapes) ^ set(by_file))
        raise DataError(f"{folder / INDEX}: does not list what the files hold: {_some(odd)}")
    return stored


def _index(path: Path) -> dict[str, str]:
    """File by tensor, as the index of a folder says; only files beside it."""
    read = read_json(path, what="the index of sharded weights").get("weight_map")
    if not isinstance(read, dict) or not all(
        isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")
        for name in read.values()
    ):
        raise DataError(
            f"{path}: expected weight_map, an object of tensor names and .safetensors files "
            "beside it"
        )
    return read


def _opened(where: Path, paths: list[Path]) -> StoredTensors:
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, Shape] = {}
    holder = {}
    for path in paths:
        try:
            file = safe_open(path, framework="pt")
            for name in file.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118 - no dict
                if name in holder:
                    raise DataError(f"{path}: {name} is in another file, too")
                holder[name] = file
                shapes[name] = tuple(file.get_slice(name).get_shape())  # type: ignore[no-untyped-call]
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); expected a whole .safetensors file: fetch it "
                "again"
            ) from error

    def read(name: str) -> Tensor:
        tensor: Tensor = holder[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    return StoredTensors(where=str(where), shapes=shapes, read=read, files=tuple(paths))


def read_json(path: Path, *, what: str) -> dict[str, object]:
    """A JSON object of a file.

    Args:
        path: the file.
        what: it is, for the message.

    Raises:
        DataError: where it is missing, or is none.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); expected {what}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); expected {what}") from error
    if not isinstance(read, dict):
        raise DataError(f"{path}: a JSON {type(read).__name__}; expected {what}, an object")
    return read
