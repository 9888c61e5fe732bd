"""`TextTokenizer`: text to ids and back, over the ``tokenizers`` library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from mdmkit.errors import DataError
from mdmkit.files import write_atomic, write_json
from mdmkit.plain_files import MIB, read_bytes, read_json
from mdmkit.suggest import did_you_mean
from mdmkit.values import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer


LARGEST = 512 * MIB
"""Bytes of a file that defines a tokenizer."""


@frozen(kw_only=True)
class SpecialTokens:
    """The tokens that have a meaning, as strings; None where there is no such token."""

    mask: str
    bos: str | None = None
    eos: str | None = None
    pad: str | None = None


@frozen(kw_only=True, slots=False)
class TextTokenizer:
    """A tokenizer of the ``tokenizers`` library and what its special tokens are.

    Special tokens never come out of text: corpus text that looks like one is encoded as plain
    text, and no template adds any. The packing alone puts them in.

    Attributes:
        backend: the library's tokenizer; use `wrap` to make one of these.
        special: the special tokens.
    """

    backend: Tokenizer
    special: SpecialTokens

    @cached_property
    def vocab(self) -> Vocabulary:
        """Size and special ids. The size is the largest id plus one."""
        ids = self.backend.get_vocab(with_added_tokens=True)
        name = asdict(self.special)
        return Vocabulary(
            size=max(ids.values()) + 1,
            mask_id=ids[self.special.mask],
            **{f"{k}_id": None if name[k] is None else ids[name[k]] for k in ("bos", "eos", "pad")},
        )

    @cached_property
    def unknown_id(self) -> int | None:
        """What text comes to for which there is no token; None where every text has tokens."""
        token = getattr(self.backend.model, "unk_token", None)
        return None if token is None else self.backend.token_to_id(token)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the definition, independent of how its JSON is laid out."""
        definition = [json.loads(self.backend.to_str()), asdict(self.special)]
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without any special token; on as many threads as there are cores.

        Raises:
            DataError: where a text has something that the tokenizer refuses.
        """
        try:
            found = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # the library raises the base class itself
            raise self._refusal(texts, error) from error
        return [encoding.ids for encoding in found]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens are kept, so that masks can be seen."""
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def _refusal(self, texts: Sequence[str], error: Exception) -> DataError:
        """What was refused: the first character that is refused by itself, if any is."""

        def refused(text: str) -> bool:
            try:
                self.backend.encode(text, add_special_tokens=False)
            except Exception:  # the library raises the base class itself
                return True
            return False

        text = next(filter(refused, texts), "")
        place = next((i for i, character in enumerate(text) if refused(character)), None)
        if place is None:
            return DataError(f"the tokenizer cannot encode a text: {error}")
        around = text[max(place - 20, 0) : place + 20]
        return DataError(
            f"the tokenizer has no token for the character {text[place]!r} in {around!r}; choose "
            "another tokenizer, or have the text changed before (text8 has normalize = true)"
        )

    def definition(self) -> str:
        """All of it as JSON, for `defined_tokenizer` in another process."""
        return json.dumps({"backend": self.backend.to_str(), "special": asdict(self.special)})

    def save(self, path: Path) -> None:
        """Write the tokenizer to `path`, and its special tokens beside it.

        The first file is the ``tokenizers`` library's own JSON, which has no room for ours;
        ``tokenizer.json`` gets a neighbour ``tokenizer.special.json``.
        """
        write_json(special_path(path), asdict(self.special) | {"fingerprint": self.fingerprint})
        write_atomic(path, self.backend.to_str(pretty=False))


def load_tokenizer(path: Path) -> TextTokenizer:
    """Read back exactly what `TextTokenizer.save` wrote to `path`.

    Raises:
        DataError: where a file is missing, damaged, or not of the other.
    """
    beside = special_path(path)
    try:
        facts = read_json(beside)
        special = SpecialTokens(**{k: facts[k] for k in ("mask", "bos", "eos", "pad")})
        expected = facts["fingerprint"]
        texts = [t for t in asdict(special).values() if t is not None]
        if not all(isinstance(t, str) for t in [special.mask, *texts]):
            raise ValueError("a special token is no string")
    except FileNotFoundError as error:
        raise DataError(
            f"{beside}: missing; it names the special tokens of {path.name} and is written with it"
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{beside}: damaged ({error}); expected the file as saved") from error
    loaded = wrap(read_backend(path), special, where=str(path))
    if loaded.fingerprint != expected:
        raise DataError(f"{path}: not the tokenizer that was saved: its content has changed")
    return loaded


def defined_tokenizer(definition: str) -> TextTokenizer:
    """What `TextTokenizer.definition` described.

    Pickling the library's object would lose that special tokens never come out of text.
    """
    from tokenizers import Tokenizer

    parts = json.loads(definition)
    backend = Tokenizer.from_str(parts["backend"])
    return wrap(backend, SpecialTokens(**parts["special"]), where="the tokenizer")


def wrap(backend: Tokenizer, special: SpecialTokens, *, where: str) -> TextTokenizer:
    """Make `backend` ready: no special tokens out of text, no padding, no truncation.

    Args:
        backend: it is changed.
        special: they must be in its vocabulary.
        where: for the message.

    Raises:
        DataError: where a special token is not in the vocabulary, or the mask token is also
            another one.
    """
    known = backend.get_vocab(with_added_tokens=True)
    for role, token in asdict(special).items():
        if token is not None and token not in known:
            raise DataError(
                f'{where}: the {role} token "{token}" is not in the vocabulary'
                f"{did_you_mean(token, _special_looking(known))}"
            )
        if role != "mask" and token == special.mask:
            raise DataError(
                f'{where}: "{token}" is both the mask and the {role} token; the mask must be a '
                "token of its own"
            )
    backend.encode_special_tokens = True
    backend.no_padding()
    backend.no_truncation()
    return TextTokenizer(backend=backend, special=special)


def read_backend(path: Path) -> Tokenizer:
    """A ``tokenizer.json`` as the library's object.

    Raises:
        DataError: where it is missing or is none.
    """
    from tokenizers import Tokenizer

    text = read_text(path, what="a tokenizer.json of the tokenizers library")
    try:
        return Tokenizer.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises the base classes themselves
        raise DataError(
            f"{path}: not a tokenizer.json of the tokenizers library: {error}"
        ) from error


def read_text(path: Path, *, what: str) -> str:
    """The content of a UTF-8 file.

    Raises:
        DataError: where it cannot be read; `what` says what was expected.
    """
    try:
        return read_bytes(path, LARGEST).decode()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read: {reason}; expected {what}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; expected {what}") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected {what}") from error


def _special_looking(known: dict[str, int]) -> list[str]:
    return [token for token in known if token[:1] in "<[" and token[-1:] in ">]"]


def special_path(path: Path) -> Path:
    """Where the special tokens of the tokenizer at `path` are written down."""
    return path.with_name(f"{path.stem}.special.json")
