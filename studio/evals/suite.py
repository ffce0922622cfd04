"""A suite: the prompts of an evaluation, from a text file, a table, or pictures with their texts beside them.

- .txt: a prompt a line; a line that begins with "# " names the category of those below it.
- .csv (a header line) and .jsonl (an object a line): `prompt` and any of GenerationSettings' fields but model; `id`,
  `category`; `first_image` relative to the file.
- a folder: each picture with NAME.txt beside it; NAME up to its last number is the category, as ani_V_005.
"""

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from studio.config import ROOT
from studio.errors import InputError
from studio.settings import TYPES, GenerationSettings

SUITES = ROOT / "configs" / "suites"  # this program's own, found by name
MOST_CASES = 10_000
MOST_BYTES = 16 * 2**20  # of a file with prompts, and of one text beside a picture
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SETTINGS = tuple(field.name for field in fields(GenerationSettings) if field.name != "model")
TABLE_KINDS = (".csv", ".jsonl", ".txt")


@dataclass(frozen=True)
class Case:
    """One prompt of a suite. settings: GenerationSettings fields besides model and first_image, `prompt` among them.

    number: its place in the suite, from 1. id: unique within the suite.
    """

    number: int
    id: str
    category: str
    settings: Mapping[str, Any]
    picture: Path | None = None


def suite_names() -> list[str]:
    """The suites that come with this program."""
    return sorted(path.stem for path in SUITES.glob("*.jsonl"))


def read_suite(asked: str | Path) -> list[Case]:
    """The cases of a file, a folder, or of a suite of this program by its name. Raises InputError."""
    path = Path(asked)
    if not path.exists() and str(asked) in suite_names():
        path = SUITES / f"{asked}.jsonl"
    if path.is_dir():
        rows = _of_folder(path)
    elif path.suffix in TABLE_KINDS:
        rows = {".csv": _of_csv, ".jsonl": _of_jsonl, ".txt": _of_text}[path.suffix](_text(path))
    else:
        raise InputError("suite_unknown", file=path, known=", ".join(suite_names()))
    if not rows or len(rows) > MOST_CASES:
        raise InputError("suite_count", file=path, count=len(rows), limit=MOST_CASES)
    cases = [_case(number, row, path) for number, row in enumerate(rows, 1)]
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InputError("suite_row", file=path, row=case.number, reason=f"the id {case.id} is used twice")
        seen.add(case.id)
    return cases


def _case(number: int, row: Mapping[str, Any], path: Path) -> Case:
    """Raises InputError where the row has fields that are none, or values of a wrong type."""
    if unknown := sorted(set(row) - {*SETTINGS, "id", "category"}):
        raise InputError("suite_row", file=path, row=number, reason=f"there is no field {', '.join(unknown)}")
    picture = row.get("first_image")
    folder = path if path.is_dir() else path.parent
    values = {name: row[name] for name in SETTINGS if name in row and name != "first_image"}
    try:
        GenerationSettings.from_dict({"model": "-", "prompt": "", **values})
    except InputError as error:
        raise InputError("suite_row", file=path, row=number, reason=str(error)) from None
    if not str(values.get("prompt", "")).strip():
        raise InputError("suite_row", file=path, row=number, reason="the prompt is empty")
    id = re.sub(r"[^\w.-]+", "-", str(row.get("id") or f"{number:03d}"))[:60]
    found = None if picture is None else folder / str(picture)
    if found is not None and not found.is_file():
        raise InputError("suite_row", file=path, row=number, reason=f"there is no picture {found}")
    return Case(number, id, str(row.get("category") or ""), values, found)


def _of_text(text: str) -> list[dict[str, Any]]:
    rows, category = [], ""
    for line in text.splitlines():
        if line.startswith("# "):
            category = line[2:].strip()
        elif line.strip():
            rows.append({"prompt": line.strip(), "category": category})
    return rows


def _of_jsonl(text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError("suite_line", line=number, reason=str(error)) from None
            if not isinstance(row, dict):
                raise InputError("suite_line", line=number, reason="it is no object of fields")
            rows.append(row)
    return rows


def _of_csv(text: str) -> list[dict[str, Any]]:
    """Cells become what their field's type says; empty ones are absent."""
    rows = []
    reader = csv.DictReader(io.StringIO(text))
    for row in reader:
        if None in row:
            raise InputError("suite_line", line=reader.line_num, reason="it has more cells than the first line")
        rows.append({name: _cell(name, cell, reader.line_num) for name, cell in row.items() if cell and cell.strip()})
    return rows


def _cell(name: str, cell: str, line: int) -> Any:
    types = set(TYPES[GenerationSettings].get(name, (str,)))
    kind = int if int in types else float if float in types else str
    try:
        return kind(cell.strip())
    except ValueError:
        raise InputError("suite_line", line=line, reason=f"{name} cannot be {cell!r}") from None


def _of_folder(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for picture in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES):
        beside = picture.with_suffix(".txt")
        if beside.is_file():
            category = re.sub(r"[\W_]*\d+$", "", picture.stem)
            rows.append({"id": picture.stem, "category": category, "first_image": picture.name,
                         "prompt": " ".join(_text(beside).split())})  # fmt: skip
    return rows


def _text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError("file_unreadable", file=path, reason=f"it has {size >> 20} MB, {MOST_BYTES >> 20} at most")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("file_unreadable", file=path, reason=getattr(error, "strerror", None) or str(error)) from None
