"""Blind tests on the page: any two recipes of its evaluations, each pair of recipes a test under an id of its own.

An id names nothing, so that a link to a test can be given away; FOLDER/.blind/ID.json says what it compares.
"""

import hashlib
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from studio.errors import InputError, StudioError
from studio.evals.asked import NAME
from studio.evals.blind import Votes, read_secret, votes_path
from studio.evals.blind_routes import BlindTest, question_rules
from studio.evals.evaluate_routes import NO_STORE, answered, read_object, read_tab, refused
from studio.evals.merge import merge
from studio.evals.results import FILE, Run, read_run
from studio.filenames import write_whole
from studio.service.endpoints import Endpoints
from studio.service.gate import Rule
from studio.stored_json import load_object

TESTS = ".blind"  # in the folder of the evaluations
RULES = (Rule("GET", "/studio/blind"), Rule("POST", "/studio/blind"), *question_rules("/studio/blind/{test}"))
ID_DIGITS = 16
Pair = tuple[tuple[str, str], tuple[str, str]]  # evaluation and recipe of each


class BlindTests:
    """folder: of the evaluations. stripped: a folder for clips without metadata, as long as this lives."""

    def __init__(self, folder: Path, stripped: Path) -> None:
        self._folder, self._stripped = folder.resolve(), stripped
        self._lock = threading.Lock()
        self._open: dict[str, tuple[tuple[int, ...], BlindTest]] = {}  # id -> times of its runs, the test

    def endpoints(self) -> Endpoints:
        """Routes, rules and the tab."""
        under = "/studio/blind"
        routes = [
            Route(under, self._list, methods=["GET"]),
            Route(under, self._create, methods=["POST"]),
            Route(under + "/{test}/pair", self._question("pair")),
            Route(under + "/{test}/clip/{token}", self._question("clip")),
            Route(under + "/{test}/vote", self._question("vote"), methods=["POST"]),
            Route(under + "/{test}/result", self._question("result")),
        ]
        return Endpoints(routes=routes, rules=RULES, tabs=(read_tab("blind", "blind.js", "blind_tab.js"),))

    def recipes(self) -> list[tuple[str, str]]:
        """(evaluation, recipe) of everything that can be compared."""
        found = []
        for path in sorted(self._folder.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime, reverse=True):
            if NAME.fullmatch(path.parent.name):
                try:
                    found += [(path.parent.name, recipe) for recipe in read_run(path.parent).recipes]
                except InputError:
                    continue
        return found

    def create(self, first: Any, second: Any) -> str:
        """The id of the test that compares two of `recipes`, each an evaluation and a recipe. Raises InputError."""
        pair = _pair([first, second])
        if not set(pair) <= set(self.recipes()):
            raise InputError("blind_unknown")
        self._merged(pair)  # raises where nothing can be compared
        id = hashlib.sha256(json.dumps(pair).encode()).hexdigest()[:ID_DIGITS]
        write_whole(self._folder / TESTS / f"{id}.json", json.dumps({"pair": pair}).encode())
        return id

    def get(self, id: str) -> BlindTest:
        """The test of an id, over the clips that are there now. Raises InputError."""
        if len(id) != ID_DIGITS or not id.isalnum():
            raise InputError("blind_unknown")
        pair = _pair(load_object(self._folder / TESTS / f"{id}.json").get("pair"))
        try:
            stamp = tuple((self._folder / name / FILE).stat().st_mtime_ns for name, _ in pair)
        except OSError:
            raise InputError("blind_unknown") from None
        with self._lock:
            known = self._open.get(id)
            if known is None or known[0] != stamp:
                made = self._merged(pair)
                path = votes_path(made)
                known = self._open[id] = stamp, BlindTest(made, Votes(path, made), read_secret(path), self._stripped)
        return known[1]

    def _merged(self, pair: Pair) -> Run:
        first, second = (f"{self._folder / name}:{recipe}" for name, recipe in pair)
        return merge(first, second, self._folder / pair[0][0])

    def _list(self, request: Request) -> Response:
        told = [{"evaluation": name, "recipe": recipe} for name, recipe in self.recipes()]
        return JSONResponse({"recipes": told}, headers=NO_STORE)

    async def _create(self, request: Request) -> Response:
        told = await read_object(request)
        return await answered(lambda: {"id": self.create(told.get("first"), told.get("second"))}, request)

    def _question(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def ask(request: Request) -> Response:
            try:
                test = await run_in_threadpool(self.get, request.path_params["test"])
                asked = getattr(test, name)(request)
                return await asked if isinstance(asked, Awaitable) else asked
            except StudioError as error:
                return refused(error, request)

        return ask


def _pair(told: Any) -> Pair:
    """[[evaluation, recipe], [evaluation, recipe]] as a pair. Raises InputError where it has another form."""
    if not isinstance(told, list) or len(told) != 2:
        raise InputError("blind_unknown")
    found = []
    for one in told:
        if not isinstance(one, list) or len(one) != 2 or not all(isinstance(word, str) for word in one):
            raise InputError("blind_unknown")
        if not NAME.fullmatch(one[0]):
            raise InputError("blind_unknown")
        found.append((one[0], one[1]))
    return found[0], found[1]
