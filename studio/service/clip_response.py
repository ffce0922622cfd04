"""A video over HTTP without the first image that it carries: the file's bytes up to that."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from models.regular_files import open_regular
from studio.embedded import length_without_picture

PIECE_BYTES = 64 * 1024
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # one range; of several the whole is sent, as HTTP allows


def clip_response(
    path: Path, request: Request, media_type: str, headers: Mapping[str, str], name: str | None = None
) -> Response:
    """The file, or the part that is asked for; name: it is to be saved under that name."""
    with open_regular(path) as file:
        length = length_without_picture(file)
    if length == path.stat().st_size:
        return FileResponse(path, media_type=media_type, filename=name, headers=headers)
    begin, end = _part(request.headers.get("range", ""), length)
    if begin >= end:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{length}"})
    own = {**FileResponse(path, filename=name).headers, **{key.lower(): value for key, value in headers.items()}}
    own |= {"content-type": media_type, "content-length": str(end - begin), "accept-ranges": "bytes"}
    whole = (begin, end) == (0, length)
    if not whole:
        own["content-range"] = f"bytes {begin}-{end - 1}/{length}"
    return StreamingResponse(_pieces(path, begin, end), status_code=200 if whole else 206, headers=own)


def _part(asked: str, length: int) -> tuple[int, int]:
    """Where the part begins and ends; nothing sensible asked for: all of it."""
    match = RANGE.fullmatch(asked.strip())
    if match is None or match[1] == match[2] == "":
        return 0, length
    if match[1] == "":  # the last so many bytes
        return max(length - int(match[2]), 0), length
    return int(match[1]), min(int(match[2]) + 1, length) if match[2] else length


def _pieces(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end and (piece := file.read(min(PIECE_BYTES, end - begin))):
            begin += len(piece)
            yield piece
