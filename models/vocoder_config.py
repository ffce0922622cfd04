"""Reads cosyvoice.yaml, the config beside flow.pt and hift.pt, as data.

The file is written for hyperpyyaml, which builds any Python object that a `!new:` tag names: it would run code from a
download. Here a tag is a word to compare. Only the sections below are read, from the small part of YAML that they are
written in; whatever is not understood, not known or missing in them is an error, never a guess.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.weight_files import CheckpointError

SECTIONS = ("flow", "hift", "feat_extractor")
CLASS = "class"  # where a section keeps the last word of its tag
SIZE_LIMIT = 1 << 20  # bytes; the public file has 3 KB
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LINE = re.compile(r"( *)(\w+):(?: +(\S.*))?")
_TAG = re.compile(r"!(?:new|name):([\w.]+)")
_REFERENCE = re.compile(r"!ref <(\w+)>")
Line = tuple[int, str, str]  # indentation, key, value


class Section:
    """One section of the config, emptied key by key, so that what nobody asked for can be told.

    Every method raises ValueError with the key's place and the values involved.
    """

    def __init__(self, config: dict[str, Any], name: str, class_name: str | None = None) -> None:
        """config: what holds the section. class_name: the class that the section must be for."""
        found = config.get(name)
        if not isinstance(found, dict):
            raise ValueError(f"it has no section {name}")
        self._name, self._values = name, dict(found)
        self._fixed = self._values.pop(CLASS, None)
        if self._fixed != class_name:
            raise ValueError(f"{name} is for {self._fixed}, known is {class_name}")

    def take(self, key: str, kind: type | tuple[type, ...] = int) -> Any:
        """The value of a key, which must be there and of a kind (bool is no int)."""
        if key not in self._values:
            raise ValueError(f"{self._name} has no {key}")
        value = self._values.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{self._name} has {key}={value!r}, which is of no known kind")
        return value

    def number(self, key: str) -> float:
        """As take, for a number with or without decimals."""
        return float(self.take(key, (int, float)))

    def numbers(self, key: str) -> tuple[int, ...]:
        """As take, for a list of whole numbers."""
        values = self.take(key, list)
        if not values or not all(type(value) is int for value in values):
            raise ValueError(f"{self._name} has {key}={values!r}, which is no list of whole numbers")
        return tuple(values)

    def section(self, key: str, class_name: str | None = None) -> "Section":
        """A section within this one."""
        inner = Section(self._values, key, class_name)
        del self._values[key]
        return inner

    def fixed(self, **values: Any) -> None:
        """Keys that must have these values: nothing else is computed here."""
        for key, known in values.items():
            value = self._values.pop(key, None)
            if value != known or isinstance(value, bool) != isinstance(known, bool):
                raise ValueError(f"{self._name} has {key}={value!r}; only {known!r} is supported")

    def unused(self, *keys: str) -> None:
        """Keys that decide nothing when speech is made (of training, say), whatever they say."""
        for key in keys:
            self._values.pop(key, None)

    def end(self) -> None:
        """Nothing may be left."""
        if self._values:
            raise ValueError(f"{self._name} has settings that are not known here: {', '.join(self._values)}")


def read_vocoder_config(path: Path) -> dict[str, Any]:
    """The sections of a cosyvoice.yaml that describe networks: name -> nested dicts of numbers, words and lists.

    Raises CheckpointError with the line that cannot be read. A section that is not there is left out.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise CheckpointError(f"{path} is no config: it has more than {SIZE_LIMIT} bytes. Download it again.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing. Download it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Download it again.") from None
    try:
        return _sections(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is not understood: {error}.") from None


def _sections(text: str) -> dict[str, Any]:
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if (start := _LINE.fullmatch(_without_comment(line))) and not start[1]:
            if start[2] in blocks:
                raise ValueError(f"{start[2]} stands there twice")
            lines = blocks[start[2]] = []
        lines.append(line)
    heads = {name: next(_lines(lines[:1]))[2] for name, lines in blocks.items()}
    scalars = {name: _scalar(text, {}) for name, text in heads.items() if NUMBER.fullmatch(text)}
    found: dict[str, Any] = {}
    for name in SECTIONS:
        if name in blocks:
            tree = _tree(iter(_lines(blocks[name])), scalars)
            if not isinstance(tree[name], dict):
                raise ValueError(f"{name} is no section")
            found |= tree
    return found


def _lines(lines: list[str]) -> Iterator[Line]:
    for line in lines:
        line = _without_comment(line)
        if not line:
            continue
        if not (parts := _LINE.fullmatch(line)):
            raise ValueError(f"the line {line.strip()!r} is no setting")
        yield len(parts[1]), parts[2], parts[3] or ""


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).rstrip()


def _tree(lines: Iterator[Line], scalars: dict[str, Any]) -> dict[str, Any]:
    """Lines -> nested dicts. A deeper line belongs to the last section above it that is less deep."""
    root: dict[str, Any] = {}
    levels: list[tuple[int, dict[str, Any]]] = [(-1, root)]  # indentation of the line that opened it, its content
    for indent, key, text in lines:
        while indent <= levels[-1][0]:
            levels.pop()
        holder = levels[-1][1]
        depth = holder.setdefault("", indent)
        if indent != depth or key in holder or key == CLASS:
            raise ValueError(f"the line of {key} stands in no section, or twice")
        tag = _TAG.fullmatch(text)
        if text and not tag:
            holder[key] = _scalar(text, scalars)
            continue
        holder[key] = {CLASS: tag[1].rsplit(".", 1)[-1]} if tag else {}
        levels.append((indent, holder[key]))
    return _without_depths(root)


def _without_depths(tree: dict[str, Any]) -> dict[str, Any]:
    inner = {key: value for key, value in tree.items() if key}
    return {key: _without_depths(value) if isinstance(value, dict) else value for key, value in inner.items()}


def _scalar(text: str, scalars: dict[str, Any]) -> Any:
    if reference := _REFERENCE.fullmatch(text):
        if reference[1] not in scalars:
            raise ValueError(f"{text} refers to no number at the top of the file")
        return scalars[reference[1]]
    if quoted := re.fullmatch(r"'([^']*)'|\"([^\"\\]*)\"", text):
        return quoted[1] if quoted[1] is not None else quoted[2]
    if NUMBER.fullmatch(text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.startswith("["):
        return json.loads(text)  # numbers in brackets are json too; its error is a ValueError
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return text
    raise ValueError(f"{text!r} is no number, word or list of numbers")
