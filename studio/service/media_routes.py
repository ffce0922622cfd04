"""GET /studio/media/{id}/{kind}: a file of a job, result or example. Nothing here turns a client's text into a path."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from studio.service.backend import Backend
from studio.service.clip_response import clip_response
from studio.service.drafts import DRAFT, draft_of
from studio.service.gate import Rule
from studio.service.media import find_media
from studio.service.strips import KINDS, strip_of

MEDIA_RULES = (Rule("GET", "/studio/media/{id}/{kind}"),)
REPLACED = ("preview", "first")  # while a job waits or runs
MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".wav": "audio/wav",
    ".vtt": "text/vtt; charset=utf-8",
}


def media_routes(backend: Backend) -> list[Route]:
    """The route over what `backend` finds by id; kinds: find_media's and strips.KINDS; DRAFT of a draft's key."""

    def media(request: Request) -> Response:
        id, kind = request.path_params["id"], request.path_params["kind"]
        if kind == DRAFT:
            path = draft_of(backend, id)
        else:
            path = strip_of(backend, id, kind) if kind in KINDS else find_media(backend, id, kind)
        if path is None or not path.is_file():
            raise HTTPException(404)
        headers = {
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "private, max-age=3600" if kind not in REPLACED else "private, no-cache",
        }
        kind_of_file = MEDIA_TYPES[path.suffix]
        if kind in REPLACED:  # replaced while it is read: its size and its bytes must be of one file
            return Response(path.read_bytes(), media_type=kind_of_file, headers=headers)
        name = path.name if kind == "download" else None
        if backend.public and path.suffix == ".mp4":
            return clip_response(path, request, kind_of_file, headers, name)
        return FileResponse(path, media_type=kind_of_file, filename=name, headers=headers)

    return [Route("/studio/media/{id}/{kind}", media, methods=["GET"])]
