"""A blind test's four questions over HTTP, the next pair, a clip, a vote, the result, and its page where it is alone.

Clips go out under tokens that differ for each pair and voter, remuxed without the settings that ours carry.
"""

import hashlib
import hmac
import json
import secrets
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from studio.errors import InputError, StudioError
from studio.evals.blind import VOTER, Outcome, Shown, Votes, next_for, order_for, outcome, vote_of
from studio.evals.evaluate_routes import ASSETS, refused
from studio.evals.results import Run
from studio.service.endpoints import Endpoints
from studio.service.gate import Rule
from studio.service.rights import Right
from studio.video_writer import find_ffmpeg

FILES = ("blind.css", "blind.js", "blind_page.js")


def question_rules(under: str) -> tuple[Rule, ...]:
    """What is asked under a path."""
    return (
        Rule("GET", f"{under}/pair", query=("voter",)),
        Rule("GET", f"{under}/clip/{{token}}"),
        Rule("POST", f"{under}/vote", needs=Right.WATCH),
        Rule("GET", f"{under}/result"),
    )


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
}
TYPES = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg"}
REMUX_SECONDS = 60


class BlindTest:
    """One comparison as it is served. stripped: a folder for the clips without metadata, as long as this lives."""

    def __init__(self, run: Run, votes: Votes, secret: str, stripped: Path) -> None:
        self._run, self._votes, self._secret, self._stripped = run, votes, secret, stripped
        self._key = secrets.token_bytes(32)  # of tokens: they end with the process
        self._files: dict[str, Path] = {}

    def endpoints(self) -> Endpoints:
        """A page of its own with its files, and the questions under "/"."""
        routes = [
            Route("/", lambda request: HTMLResponse(page(), headers=HEADERS)),
            *(Route(f"/{name}", partial(_file, name)) for name in FILES),
            Route("/pair", self.pair),
            Route("/clip/{token}", self.clip),
            Route("/vote", self.vote, methods=["POST"]),
            Route("/result", self.result),
        ]
        files = (Rule("GET", "/"), *(Rule("GET", f"/{name}") for name in FILES))
        return Endpoints(routes=routes, rules=(*files, *question_rules("")))

    def pair(self, request: Request) -> Response:
        """The voter's next pair."""
        voter = request.query_params.get("voter", "")
        if not VOTER.fullmatch(voter):
            return refused(InputError("voter_unknown"), request)
        return JSONResponse(self._next(voter), headers=HEADERS)

    def _next(self, voter: str) -> Mapping[str, Any]:
        shown = order_for(self._run, voter, self._secret)
        one = next_for(shown, self._votes.read(), voter)
        if one is None:
            return {"done": len(shown), "total": len(shown)}
        left, right = (self._token(voter, one, side) for side in ("left", "right"))
        told = {"number": one.number, "done": one.number, "total": len(shown), "criteria": one.criteria}
        told |= {"prompt": one.first.settings["prompt"], "left": left, "right": right, "picture": None}
        if one.first.picture:
            token = self._token(voter, one, "picture")
            told["picture"] = token
        return told

    def _token(self, voter: str, one: Shown, side: str) -> str:
        """A name for a file that says nothing of it; the ending tells a browser what it is."""
        left, right = one.sides
        name = {"left": left.clip, "right": right.clip, "picture": one.first.picture}[side] or ""
        path = self._run.folder / name
        text = f"{voter}/{one.number}/{side}/{name}"
        token = hmac.new(self._key, text.encode(), "sha256").hexdigest()[:32] + path.suffix
        self._files[token] = path
        return token

    async def clip(self, request: Request) -> Response:
        """A file by its token, without metadata."""
        path = self._files.get(request.path_params["token"])
        if path is None or not path.is_file():
            return JSONResponse({"detail": "-"}, 404)
        try:
            plain = await run_in_threadpool(strip, path, self._stripped)
        except StudioError as error:
            return refused(error, request)
        return FileResponse(plain, media_type=TYPES.get(path.suffix), headers=HEADERS | {"Cache-Control": "private"})

    async def vote(self, request: Request) -> Response:
        """A vote on the pair that the voter has seen; answers with the next one."""
        try:
            told = json.loads(await request.body())
            voter, number, sides = str(told["voter"]), int(told["number"]), dict(told["choices"])
            if not VOTER.fullmatch(voter):
                raise InputError("voter_unknown")
            shown = order_for(self._run, voter, self._secret)
            # The token tells that this pair was shown: the run may have grown since, and its order changed.
            if not 0 <= number < len(shown) or told["left"] != self._token(voter, shown[number], "left"):
                raise InputError("vote_unknown", criteria="-")
            await run_in_threadpool(self._votes.add, vote_of(shown[number], voter, sides))
            return JSONResponse(self._next(voter), headers=HEADERS)
        except (ValueError, TypeError, KeyError, RecursionError):
            return refused(InputError("vote_unknown", criteria="-"), request)
        except InputError as error:
            return refused(error, request)

    def result(self, request: Request) -> Response:
        """What the votes say so far; it names the recipes."""
        return JSONResponse(result_dict(self._run, outcome(self._votes.read())), headers=HEADERS)


def page() -> str:
    """The test as a page of its own."""
    body = (ASSETS / "blind.html").read_text(encoding="utf-8")
    return (ASSETS / "blind_page.html").read_text(encoding="utf-8").replace("<!-- the test -->", body)


def _file(name: str, request: Request) -> Response:
    return FileResponse(ASSETS / name, headers=HEADERS)


def result_dict(run: Run, found: Outcome) -> dict[str, Any]:
    """The outcome as plain data; it names the recipes."""
    first, second = run.recipes
    verdicts = {name: vars(one) | {"margin": vars(one.margin)} for name, one in found.verdicts.items()}
    shares = {"agreement": found.agreement, "left": found.left}
    told = {name: None if one is None else vars(one) for name, one in shares.items()}
    counts = {"votes": found.votes, "voters": found.voters}
    return {"first": first, "second": second, **counts, "verdicts": verdicts, **told}


def strip(path: Path, folder: Path) -> Path:
    """The file without metadata, made once: a video is remuxed, a picture's pixels are written anew. StudioError."""
    plain = folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}{path.suffix}"
    if plain.exists():
        return plain
    unfinished = folder / f"{secrets.token_hex(8)}{path.suffix}"  # another request may make the same one
    if path.suffix != ".mp4":
        try:
            Image.open(path).convert("RGB").save(unfinished)
        except (OSError, ValueError) as error:
            raise StudioError("evaluation_clip", file=path.name, reason=str(error)) from None
        return unfinished.replace(plain)
    command = [find_ffmpeg(), "-y", "-v", "error", "-i", str(path), "-c", "copy", "-map_metadata", "-1", "-fflags",
               "+bitexact", "-movflags", "+faststart", "-f", "mp4", str(unfinished)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=REMUX_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise StudioError("evaluation_clip", file=path.name, reason=type(error).__name__) from None
    return unfinished.replace(plain)
