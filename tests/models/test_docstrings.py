"""Shapes are part of a network's contract: every `forward` in models/ states them."""

import ast
from collections.abc import Iterator
from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"
SHAPES = ("->", "(b, ", "(..., ")


def forwards() -> Iterator[tuple[str, str]]:
    """Where each `forward` stands, and its docstring."""
    for path in sorted(MODELS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "forward":
                yield f"{path.name}:{node.lineno}", ast.get_docstring(node) or ""


def test_every_forward_states_its_shapes() -> None:
    found = dict(forwards())
    assert len(found) > 20
    silent = [place for place, words in found.items() if not any(shape in words for shape in SHAPES)]
    assert not silent, silent


def test_no_two_classes_of_models_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(MODELS.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path.name)
    assert not {name: files for name, files in places.items() if len(files) > 1}
