"""The rules of the house that a machine can see: who may import whom, and what stays small."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [ROOT / "app.py", *sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "studio").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (*PROGRAM, *TESTS)}

# Every module of studio/ stands in one room; a room may import the rooms named after it. One way: no circle of rooms.
ROOMS = {
    "words": "__init__ errors events examples filenames config settings media prompt",
    "memory": "memory",
    "recipe": "pipeline engine estimate job_times latents_file output preview",
    "queue": "database jobs locks log worker supervisor gallery",
    "files": "download download_record hubs inspect quantize",
    "nano": "nano",
    "ui": "ui",
    "commands": "commands",
}
MAY_IMPORT = {
    "models": {"models"},
    "words": {"words"},
    "memory": {"memory", "models", "words"},
    "recipe": {"recipe", "files", "memory", "models", "words"},
    "queue": {"queue", "words"},
    "files": {"files", "memory", "models", "words"},
    "nano": {"nano", "recipe", "models", "words"},
    "ui": {"ui", "queue", "words"},
    "commands": {"commands", "ui", "queue", "recipe", "memory", "models", "files", "nano", "words"},
    "app": {"commands", "words"},
}
TORCH_ROOMS = {"models", "memory", "recipe", "files", "nano"}
PRINTING_ROOMS = {"app", "commands", "nano"}
MODELS_NEED = {"torch", "numpy", "safetensors", "transformers", "sentencepiece", "tokenizers", "flash_attn"}
BROAD_EXCEPT_AT = ["studio/worker.py"]
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 8
ROOM_OF = {name: room for room, names in ROOMS.items() for name in names.split()}
program = pytest.mark.parametrize("path", PROGRAM, ids=lambda path: str(path.relative_to(ROOT)))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PROGRAM}


def room(module: str) -> str:
    """The room of a module of ours: "studio.memory.plan" is in memory."""
    first, _, rest = module.partition(".")
    return ROOM_OF.get(rest.partition(".")[0] or "__init__", f"no room for {module}") if first == "studio" else first


def imports(path: Path, inside_functions: bool = True) -> set[str]:
    """Full names of what a file imports; from a package, the modules rather than the package."""
    found = set()
    for node in ast.walk(TREES[path]) if inside_functions else TREES[path].body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: write the full name"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & set(MODULES)) | ({node.module} if names - set(MODULES) else set())
    return found


def third_party(path: Path) -> set[str]:
    ours = {"app", "models", "studio", "tests"}
    return {name.partition(".")[0] for name in imports(path)} - ours - set(sys.stdlib_module_names)


def location(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


@program
def test_imports_go_one_way(path: Path) -> None:
    own = room(module_name(path))
    assert own in MAY_IMPORT, f"{own}: name it in ROOMS above, and in design.md"
    ours = {name for name in imports(path) if name.partition(".")[0] in ("app", "models", "studio")}
    wrong = {name for name in ours if room(name) not in MAY_IMPORT[own]}
    assert not wrong, f"{own} may not import {sorted(wrong)}"


def test_rooms_make_no_circle() -> None:
    graph = {name: allowed - {name} for name, allowed in MAY_IMPORT.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(MAY_IMPORT) >= set(ROOMS)


def test_modules_make_no_circle() -> None:
    graph = {name: imports(path, inside_functions=False) & set(MODULES) for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@program
def test_torch_and_gradio_stay_in_their_rooms(path: Path) -> None:
    own, used = room(module_name(path)), third_party(path)
    assert "torch" not in used or own in TORCH_ROOMS
    assert "gradio" not in used or own in ("ui", "app")
    assert own != "models" or used <= MODELS_NEED


def test_the_pages_side_loads_no_torch() -> None:
    """Also not through a third party: the queue, the gallery and the settings start in a moment."""
    modules = "settings jobs gallery worker supervisor locks log media prompt"
    code = (
        f"import sys; import {', '.join('studio.' + name for name in modules.split())}; print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "False"


@pytest.mark.parametrize("path", [*PROGRAM, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES


@program
def test_functions_stay_small(path: Path) -> None:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            where, given = f"{location(path, node)} {node.name}", node.args
            names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            builds_page = room(module_name(path)) == "ui" and node.name.startswith("build_")  # a list of components
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES or builds_page, f"{where} is long"
            assert len([name for name in names if name not in ("self", "cls")]) <= MAX_PARAMETERS, (
                f"{where}: parameters"
            )


def test_one_broad_except() -> None:
    """At the worker's boundary, where whatever happens fails one job. To clean up and raise on hides nothing."""
    found = [
        str(path.relative_to(ROOT))
        for path in PROGRAM
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.ExceptHandler) and is_broad(node) and not raises_on(node)
    ]
    assert found == BROAD_EXCEPT_AT


def is_broad(handler: ast.ExceptHandler) -> bool:
    named = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
    return handler.type is None or bool(named & {"Exception", "BaseException"})


def raises_on(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@program
def test_nothing_unfinished_is_left(path: Path) -> None:
    unfinished = [word for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if word in path.read_text("utf-8")]
    assert not unfinished
    for node in ast.walk(TREES[path]):
        where = location(path, node) if hasattr(node, "lineno") else ""
        assert not isinstance(node, ast.Assert), f"{where}: an assert is no check of what comes from outside"
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called != "print" or room(module_name(path)) in PRINTING_ROOMS, f"{where} prints"
            assert "register_forward" not in called, f"{where} hooks into a forward pass"


@program
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(TREES[path]) or not TREES[path].body
