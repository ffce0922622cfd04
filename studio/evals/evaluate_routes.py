"""Evaluations on the page over HTTP: what can be chosen, what there is, what is done to it, its report.

A report's files are found inside its folder by what they are: the page itself, clips, posters, settings.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from studio.config import ModelConfig
from studio.errors import InputError, StudioError
from studio.evals.asked import NAME
from studio.evals.evaluations import Evaluations, Shown
from studio.evals.recipes import WEIGHTS, load_recipes
from studio.evals.report import FILE as REPORT
from studio.evals.results import FILE as RESULTS
from studio.evals.run import CLIPS, POSTERS
from studio.evals.scores_text import has_reader
from studio.evals.suite import SETTINGS, read_suite, suite_names
from studio.messages import message
from studio.service.endpoints import Endpoints, Tab
from studio.service.gate import VISITOR, Rule, Visitor, reader_language

ASSETS = Path(__file__).parent / "assets"
RULES = (
    Rule("GET", "/studio/evaluations"),
    Rule("POST", "/studio/evaluations"),
    Rule("GET", "/studio/evaluations/choices"),
    Rule("POST", "/studio/evaluations/{name}/{act}"),
    Rule("POST", "/studio/evaluations/{name}/file/{file}", upload=True),
    Rule("GET", "/studio/reports/{path...}"),
)
FREE_BYTES = 100 * 2**20  # free space is told in steps of this
ACTS = ("start", "stop", "remove")
NO_STORE = {"Cache-Control": "no-store"}
REPORT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; form-action 'none'; base-uri 'none'",
    "Cache-Control": "private, no-cache",
}
PAGES = {REPORT: "text/html; charset=utf-8", RESULTS: "application/json"}
PARTS = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp",
         ".json": "application/json"}  # fmt: skip


class EvaluateRoutes:
    """installed(): model name -> whether its files are here."""

    def __init__(
        self,
        evaluations: Evaluations,
        models: Mapping[str, ModelConfig],
        installed: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._evaluations, self._models, self._installed = evaluations, models, installed

    def endpoints(self) -> Endpoints:
        """Routes, rules and the tab."""
        routes = [
            Route("/studio/evaluations", self._list, methods=["GET"]),
            Route("/studio/evaluations", self._create, methods=["POST"]),
            Route("/studio/evaluations/choices", self._choices),
            Route("/studio/evaluations/{name}/{act}", self._act, methods=["POST"]),
            Route("/studio/evaluations/{name}/file/{file}", self._file, methods=["POST"]),
            Route("/studio/reports/{path:path}", self._report),
        ]
        return Endpoints(routes=routes, rules=RULES, tabs=(read_tab("evaluate", "evaluate.js"),))

    def _list(self, request: Request) -> Response:
        folder = self._evaluations.folder
        there = next(path for path in (folder, *folder.parents) if path.exists())
        told = [_told(one) for one in self._evaluations.all()]
        free = shutil.disk_usage(there).free // FREE_BYTES * FREE_BYTES  # what did not change is not drawn again
        return JSONResponse({"evaluations": told, "free_bytes": free}, headers=NO_STORE)

    def _choices(self, request: Request) -> Response:
        installed = self._installed()
        suites = [{"name": name, "count": len(read_suite(name))} for name in suite_names()]
        recipes = [asdict(one) | {"installed": installed[one.model]} for one in load_recipes(self._models).values()]
        told: dict[str, Any] = {"suites": suites, "recipes": recipes, "weights": WEIGHTS, "settings": SETTINGS}
        told |= {"models": [name for name, there in installed.items() if there], "paths": is_local(request)}
        told |= {"scores": importlib.util.find_spec("cv2") is not None, "texts": has_reader()}
        return JSONResponse(told, headers=NO_STORE)

    async def _create(self, request: Request) -> Response:
        told, paths = await read_object(request), is_local(request)
        name = told.get("name", "")
        if not isinstance(name, str):
            return refused(InputError("evaluation_name", value=str(name)), request)
        return await answered(lambda: {"name": self._evaluations.create(name, told, paths=paths)}, request)

    async def _act(self, request: Request) -> Response:
        name, act = request.path_params["name"], request.path_params["act"]
        if act not in ACTS:
            return refused(InputError("evaluation_unknown", value=name), request)
        done: Callable[[str], None] = getattr(self._evaluations, act)
        return await answered(partial(done, name), request)

    async def _file(self, request: Request) -> Response:
        name, file = request.path_params["name"], request.path_params["file"]
        data = await request.body()
        return await answered(partial(self._evaluations.add_file, name, file, data), request)

    def _report(self, request: Request) -> Response:
        found = report_file(self._evaluations.folder, request.path_params["path"])
        if found is None:
            return JSONResponse({"detail": "-"}, 404)
        return FileResponse(found[0], media_type=found[1], headers=REPORT_HEADERS)


def report_file(folder: Path, asked: str) -> tuple[Path, str] | None:
    """NAME/index.html, NAME/results.json, NAME/clips/FILE or NAME/posters/FILE: the file and its media type."""
    parts = asked.split("/")
    if not NAME.fullmatch(parts[0]) or any(part.startswith(".") for part in parts):
        return None
    if len(parts) == 2:
        kind = PAGES.get(parts[1])
    else:
        kind = PARTS.get(Path(parts[-1]).suffix) if len(parts) == 3 and parts[1] in (CLIPS, POSTERS) else None
    path = folder.joinpath(*parts)
    if kind is None or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return None
    return path, kind


def is_local(request: Request) -> bool:
    """Whether the page is for this machine alone, so that whoever asks may name its files."""
    visitor: Visitor = request.scope[VISITOR]
    return not visitor.token and visitor.scopes is None


def read_tab(name: str, *scripts: str) -> Tab:
    """A tab from assets/NAME.html, NAME.css and the scripts, one after the other."""
    body, style, *code = (
        (ASSETS / file).read_text(encoding="utf-8") for file in (f"{name}.html", f"{name}.css", *scripts)
    )
    return Tab(name, body, "\n".join(code), style)


async def read_object(request: Request) -> dict[str, Any]:
    """The object in a request's body, {} where there is none."""
    try:
        told = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


async def answered(do: Callable[[], Mapping[str, Any] | None], request: Request) -> Response:
    """What `do` returns, {} for nothing, or why it cannot be done in the reader's language; done in a thread."""
    try:
        return JSONResponse(await run_in_threadpool(do) or {}, headers=NO_STORE)
    except StudioError as error:
        return refused(error, request)


def refused(error: StudioError, request: Request) -> Response:
    """A refusal in the language that the request accepts first."""
    language = reader_language(request.headers.get("accept-language", ""))
    words = message(error.code, error.values, language)
    return JSONResponse({"code": error.code, "detail": words}, 400, headers=NO_STORE)


def _told(shown: Shown) -> dict[str, Any]:
    asked = shown.asked and {"source": shown.asked.source, "prompts": shown.asked.prompts,
                             "recipes": shown.asked.recipes, "seeds": shown.asked.seeds}  # fmt: skip
    report = f"studio/reports/{shown.name}/{REPORT}" if shown.has_report else None
    told = {"name": shown.name, "stage": shown.stage, "report": report, "asked": asked, "error": shown.error}
    return asdict(shown.progress) | told
