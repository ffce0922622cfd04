"""The rules of the house that a machine can see: who imports whom, which packages stay where, what stays small.

Each test lists every offender it finds. docs/architecture.md has the same rules in words.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [ROOT / "app.py", *sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "studio").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (*PROGRAM, *TESTS)}

# The room of a module is that of its longest prefix here; a room may import itself and the rooms named beside it.
FACTS = "facts"  # of the public files and of a video's sizes, without torch: for every room
BASE = ("memory base", "models", "shared")
STREAMING = ("streaming", *BASE)
PLANNING = ("planning", *STREAMING)
MEMORY = ("memory", *PLANNING)
PIPELINE = ("pipeline", "checkpoints", *MEMORY)
ROOMS = {
    "models": ("models", ()),
    "models.geometry": (FACTS, ()),
    "models.layout": (FACTS, ()),
    "models.regular_files": (FACTS, ()),
    "models.token_split": (FACTS, ()),
    "studio": ("shared", ()),
    "studio.memory.allocator": ("memory base", ("models", "shared")),
    "studio.memory.oom": ("memory base", ("models", "shared")),
    "studio.memory.plan": ("memory base", ("models", "shared")),
    "studio.memory.usage": ("memory base", ("models", "shared")),
    "studio.memory.streaming": ("streaming", BASE),
    "studio.memory.planning": ("planning", STREAMING),
    "studio.memory": ("memory", PLANNING),
    "studio.checkpoints": ("checkpoints", ("models", "shared")),
    "studio.pipeline": ("pipeline", ("checkpoints", *MEMORY)),
    "studio.audio": ("audio", ("shared",)),
    "studio.queue": ("queue", ("shared",)),
    "studio.queue.executor": ("executor", ("queue", "shared")),
    "studio.service": ("service", ("queue", "shared")),
    "studio.evals": ("evals", ("service", "queue", "shared")),
    "studio.ui": ("ui", ("service", "queue", "shared")),
    "studio.api": ("api", ("service", "queue", "shared")),
    "studio.nano": ("nano", PIPELINE),
    "studio.commands": ("commands", ("executor", "ui", "api", "evals", "service", "queue", "nano", "audio", *PIPELINE)),
    "studio.__main__": ("app", ("commands",)),
    "app": ("app", ("commands",)),
}
MAY_IMPORT = {room: {room, FACTS, *others} for room, others in ROOMS.values()}
HAS_TORCH = {"models", "memory base", "streaming", "planning", "memory", "checkpoints", "pipeline", "nano"}
SERVING = {"service", "ui", "api", "evals"}
PACKAGE_ROOMS = {
    "torch": HAS_TORCH,
    "gradio": {"ui", "commands"},
    "starlette": SERVING,
    "fastapi": SERVING,
    "uvicorn": {"ui"},
    "segno": {"ui"},
    "ray": {"executor"},
    "cv2": {"evals"},
    "rapidocr": {"evals"},
}
PRINTING_ROOMS = {"app", "commands", "nano"}
MODELS_NEED = {"torch", "numpy", "safetensors", "transformers", "sentencepiece", "tokenizers", "flash_attn"}
# Where any error is caught: the reader of one file that a stranger may have written, and the worker's loop.
BROAD_EXCEPT_AT = ["models/regular_files.py", "studio/queue/worker.py"]
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 8
UNFINISHED = re.compile("TO[D]O|FIX[M]E|X[X]X|NotImplemented[E]rror")  # brackets: the pattern is no such mark itself


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PROGRAM}


def room(module: str) -> str:
    """The room of a module of ours: "studio.memory.planning.speeds" is in planning."""
    while module and module not in ROOMS:
        module = module.rpartition(".")[0]
    return ROOMS[module][0]


def imported(path: Path, *, at_start: bool = False) -> set[str]:
    """Full names of what a file imports, types for checkers apart. at_start: functions' own imports apart too."""
    found: set[str] = set()
    waiting: list[ast.AST] = [TREES[path]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names}
            found |= (names & set(MODULES)) | ({f"{'.' * node.level}{node.module}"} if names - set(MODULES) else set())
    return found


def third_party(path: Path) -> set[str]:
    ours = {"app", "models", "studio", "tests"}
    return {name.partition(".")[0] for name in imported(path)} - ours - set(sys.stdlib_module_names)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True).stdout


def test_imports_go_one_way() -> None:
    wrong = [f"{path.relative_to(ROOT)}: relative import" for path in TREES for n in imported(path) if n[0] == "."]
    for path in PROGRAM:
        own, may = room(module_name(path)), MAY_IMPORT[room(module_name(path))]
        ours = {name for name in imported(path) if name.partition(".")[0] in ("app", "models", "studio")}
        wrong += [f"{path.relative_to(ROOT)} ({own}) imports {name}" for name in sorted(ours) if room(name) not in may]
    assert not wrong, "\n".join(wrong)


def test_nothing_goes_in_a_circle() -> None:
    rooms = {name: allowed - {name} for name, allowed in MAY_IMPORT.items()}
    modules = {name: imported(path, at_start=True) & set(MODULES) for name, path in MODULES.items()}
    assert set(TopologicalSorter(rooms).static_order()) == set(MAY_IMPORT)
    assert len(list(TopologicalSorter(modules).static_order())) == len(MODULES)


def test_packages_stay_in_their_rooms() -> None:
    wrong = []
    for path in PROGRAM:
        own, used = room(module_name(path)), third_party(path)
        wrong += [f"{path}: {name}" for name, rooms in PACKAGE_ROOMS.items() if name in used and own not in rooms]
        needed = MODELS_NEED | ({"triton"} if path.parent.name == "kernels" else set())
        wrong += [f"{path}: {name}" for name in used - needed if own == "models"]
    assert not wrong, "\n".join(wrong)


def test_rooms_start_with_what_they_need_alone() -> None:
    """The page's side starts without torch, also through third parties; weights, memory and the sampler with four
    packages, the recipe with Pillow beside them."""
    light = "settings prompt media queue.jobs queue.gallery queue.worker queue.supervisor queue.locks queue.log"
    names = ", ".join(f"studio.{name}" for name in light.split())
    assert run(f"import sys; import {names}; print('torch' in sys.modules)").strip() == "False"
    hidden = "gradio omegaconf imageio_ffmpeg PIL tqdm transformers tokenizers sentencepiece bitsandbytes scipy"
    code = f"import sys\nfor name in '{hidden}'.split(): sys.modules[name] = None\n"
    heavy = [name for name in MODULES if room(name) in MEMORY and room(name) != "shared"]
    for name in ("models.clip", "models.clip_pair", "models.tokenizers"):  # networks and tokenizers of those packages
        heavy.remove(name)
    run(code + "".join(f"import {name}\n" for name in (*heavy, "studio.pipeline.sampler")))
    run(code + "del sys.modules['PIL']\nimport studio.pipeline.generate")


def test_files_and_functions_stay_readable() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in TREES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MAX_LINES
    ]
    for path, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        given, where = node.args, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        names = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {"self", "cls"}
        builds_page = room(module_name(path)) == "ui" and node.name.startswith("build_")  # a list of components
        if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES and not builds_page:
            wrong.append(f"{where}: {node.end_lineno - node.lineno} lines")
        on_gpu = node.name.endswith("_kernel")  # takes pointers and numbers, nothing that could hold several of them
        if len(names) > MAX_PARAMETERS and not on_gpu:
            wrong.append(f"{where}: {len(names)} parameters")
    assert not wrong, "\n".join(wrong)


def test_nothing_unfinished_or_hidden_is_left() -> None:
    """No unfinished marks, asserts on what comes from outside, prints outside of commands, hooks; one broad except."""
    wrong = [f"{path}: {word}" for path in PROGRAM for word in UNFINISHED.findall(path.read_text("utf-8"))]
    wrong += [f"{path}: no docstring" for path in PROGRAM if TREES[path].body and not ast.get_docstring(TREES[path])]
    wrong += [f"{path}:{node.lineno}: assert" for path, node in nodes(ast.Assert)]
    for path, node in nodes(ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if called == "print" and room(module_name(path)) not in PRINTING_ROOMS:
            wrong.append(f"{path}:{node.lineno}: print")
        if "register_forward" in called:
            wrong.append(f"{path}:{node.lineno}: {called}")
    assert not wrong, "\n".join(wrong)
    broad = [path for path, node in nodes(ast.ExceptHandler) if is_broad(node) and not raises_on(node)]
    assert [str(path.relative_to(ROOT)) for path in broad] == BROAD_EXCEPT_AT


def nodes(*kinds: type) -> Iterator[tuple[Path, ast.AST]]:
    for path in PROGRAM:
        yield from ((path, node) for node in ast.walk(TREES[path]) if isinstance(node, kinds))


def is_broad(handler: ast.ExceptHandler) -> bool:
    named = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
    return handler.type is None or bool(named & {"Exception", "BaseException"})


def raises_on(handler: ast.ExceptHandler) -> bool:
    """To clean up and raise on hides nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None
