"""The handlers of the HTTP API, on the page's server and behind its gate."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from studio.api import openapi, schema
from studio.api.body import read_fields
from studio.api.content import MEDIA_TYPES, content
from studio.api.errors import error_answer, error_body
from studio.api.events import Streams, stream
from studio.api.fields import changed, wanted
from studio.api.keys import Keys
from studio.api.operations import OPERATIONS
from studio.api.provenance import Requests, request_provenance
from studio.errors import InputError, StudioError
from studio.queue.job import Job, JobState
from studio.queue.kinds import JobKind
from studio.service.backend import Backend
from studio.service.clip_response import clip_response
from studio.service.endpoints import Endpoints
from studio.service.gate import VISITOR, Rule, reader_language
from studio.service.media import first_image
from studio.service.submit import submit
from studio.settings import GenerationSettings

POLL_AFTER = {"openai-poll-after-ms": "2000"}  # how long clients wait before they ask again
LONGEST_PAGE, USUAL_PAGE = 100, 20
STOP_SECONDS, LOOK_SECONDS = 20.0, 0.1  # how long DELETE waits for a running job to stop, and looks for it
BODIES = "/v1/"  # refusals under these paths have the API's form
POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Awaitable[Response]]


def api_endpoints(backend: Backend, keys: Keys) -> Endpoints:
    """What is served beside the page."""
    api = Api(backend)
    rules = [
        Rule(
            operation.method,
            operation.path,
            open=operation.open,
            key=operation.scope,
            login=operation.person or operation.open,
            upload=operation.body == "create",
            query=tuple(operation.query),
        )
        for operation in OPERATIONS
    ]
    routes = [
        Route(operation.path, _answered(getattr(api, operation.name)), methods=[operation.method])
        for operation in OPERATIONS
    ]
    return Endpoints(routes, rules, keys.check, {BODIES: error_body})


def _answered(handler: Handler) -> Handler:
    """The handler, with its errors as answers."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except StudioError as error:
            return error_answer(error, request)

    return answer


class Api:
    """One method per operation of the table."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._requests, self._streams = backend, Requests(backend.queue), Streams()

    async def create_video(self, request: Request) -> Response:
        given = await read_fields(request, self._backend.config.upload_limit_mb << 20)
        asked = await run_in_threadpool(wanted, given, self._backend)
        return await self._ask(request, asked.settings, asked.picture)

    async def remix_video(self, request: Request) -> Response:
        source = await self._job(request)
        given = await read_fields(request, self._backend.config.upload_limit_mb << 20)
        picture = await run_in_threadpool(first_image, self._backend, source.id)
        if source.settings.first_image and picture is None:
            raise InputError("video_file_gone")
        return await self._ask(request, changed(given, source.settings.asked()), picture, source.id)

    async def list_videos(self, request: Request) -> Response:
        limit, after = _limit(request), request.query_params.get("after")
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise InputError("choice_unknown", field="order", value=order[:40], known="asc, desc")
        behind = None if after is None else schema.job_id(after)
        found = await run_in_threadpool(schema.page, self._backend.queue, limit, behind, newest_first=order == "desc")
        videos = [await run_in_threadpool(self._shown, job, request) for job in found.jobs]
        ends = {"first_id": videos[0]["id"], "last_id": videos[-1]["id"]} if videos else {}
        listed = {"object": "list", "data": videos, "first_id": None, "last_id": None, "has_more": found.has_more}
        return JSONResponse(listed | ends)

    async def get_video(self, request: Request) -> Response:
        return await self._video(request, await self._job(request))

    async def video_content(self, request: Request) -> Response:
        job = await self._job(request)
        path = await run_in_threadpool(content, job, request.query_params.get("variant", "video"))
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=3600"}
        return await run_in_threadpool(clip_response, path, request, MEDIA_TYPES[path.suffix], headers, path.name)

    async def video_events(self, request: Request) -> Response:
        job = await self._job(request)

        def look() -> tuple[dict[str, Any] | None, bool]:
            now = self._backend.queue.get(job.id)
            return (self._shown(now, request), schema.ended(now)) if now else (None, True)

        self._streams.begin()
        text = stream(look, self._streams, schema.video_id(job.id))
        return StreamingResponse(text, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def delete_video(self, request: Request) -> Response:
        job, queue = await self._job(request), self._backend.queue
        if job.state == JobState.RUNNING and await run_in_threadpool(queue.cancel, job.id):
            for _ in range(int(STOP_SECONDS / LOOK_SECONDS)):
                now = await run_in_threadpool(queue.get, job.id)
                if now is None or now.state != JobState.RUNNING:
                    break
                await asyncio.sleep(LOOK_SECONDS)
        if not await run_in_threadpool(queue.delete, job.id):
            raise _absent(request)
        return JSONResponse({"id": schema.video_id(job.id), "object": "video.deleted", "deleted": True})

    async def cancel_video(self, request: Request) -> Response:
        job = await self._job(request)
        if not await run_in_threadpool(self._backend.queue.cancel, job.id):
            raise InputError("video_not_running", state=job.state)
        return await self._video(request, await self._job(request))

    async def resume_video(self, request: Request) -> Response:
        job = await self._job(request)
        if not await run_in_threadpool(self._backend.queue.resume, job.id):
            raise InputError("video_not_resumable", state=job.state)
        return await self._video(request, await self._job(request))

    async def list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": await run_in_threadpool(self._installed)})

    async def get_model(self, request: Request) -> Response:
        name = request.path_params["id"]
        found = [one for one in await run_in_threadpool(self._installed) if one["id"] == name]
        if not found:
            raise InputError("model_absent", model=name[:80])
        return JSONResponse(found[0])

    async def describe(self, request: Request) -> Response:
        return JSONResponse(openapi.describe())

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(openapi.page(), headers=POLICY)

    async def health(self, request: Request) -> Response:
        trouble = await run_in_threadpool(self._backend.trouble)
        return JSONResponse({"status": "unavailable" if trouble else "ok"}, 503 if trouble else 200)

    async def _ask(
        self, request: Request, settings: GenerationSettings, picture: bytes | None, remixed_from: str = ""
    ) -> Response:
        """Queue what was asked for, once for one Idempotency-Key."""
        sender, key = request.scope[VISITOR].user, request.headers.get("idempotency-key")
        origin = request_provenance(sender, key, settings, picture, remixed_from)
        make = partial(submit, self._backend, settings, picture)
        job, repeated = await run_in_threadpool(self._requests.once, origin, make)
        answer = await self._video(request, job)
        if repeated:
            answer.headers["Idempotent-Replayed"] = "true"
        return answer

    async def _job(self, request: Request) -> Job:
        """The job of the path. Raises InputError where there is none that makes a video."""
        job = await run_in_threadpool(self._backend.queue.get, schema.job_id(request.path_params["id"]))
        if job is None or job.kind is not JobKind.VIDEO:
            raise _absent(request)
        return job

    async def _video(self, request: Request, job: Job) -> Response:
        shown = await run_in_threadpool(self._shown, job, request)
        return JSONResponse(shown, headers=POLL_AFTER)

    def _shown(self, job: Job, request: Request) -> dict[str, Any]:
        language = reader_language(request.headers.get("accept-language", ""))
        return schema.video(job, self._backend.queue.ahead(job.id), language)

    def _installed(self) -> list[dict[str, Any]]:
        installed, defects = self._backend.installed(), self._backend.defects()
        usable = [model for model in self._backend.menu() if installed[model.name] and model.name not in defects]
        return [schema.model(model) for model in usable]


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(USUAL_PAGE))
    if not (text.isdecimal() and text.isascii() and 1 <= int(text) <= LONGEST_PAGE):
        raise InputError("number_range", field="limit", value=text, low=1, high=LONGEST_PAGE)
    return int(text)


def _absent(request: Request) -> InputError:
    return InputError("video_absent", value=request.path_params["id"][:80])
