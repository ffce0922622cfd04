"""A video as a stream of server-sent events: itself at every change, until it has ended."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from studio.errors import StudioError

POLL_SECONDS = 0.25
QUIET_SECONDS = 15.0  # then a comment keeps proxies from closing the connection
MOST_STREAMS = 64

Look = Callable[[], tuple[dict[str, Any] | None, bool]]  # the video (None: deleted), and whether it has ended


class Streams:
    """Counts the streams under way. Safe from any thread."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._left, self._lock = most, threading.Lock()

    def begin(self) -> None:
        """Count one more. Raises StudioError where there are too many."""
        with self._lock:
            if self._left <= 0:
                raise StudioError("streams_busy")
            self._left -= 1

    def end(self) -> None:
        """One less."""
        with self._lock:
            self._left += 1


async def stream(look: Look, streams: Streams, id: str) -> AsyncIterator[str]:
    """The text of the stream; `streams` has counted it already."""
    last, quiet = "", 0.0
    try:
        while True:
            video, over = await run_in_threadpool(look)
            if video is None:
                yield event("deleted", {"id": id, "object": "video.deleted", "deleted": True})
                return
            if (text := event("video", video)) != last:
                yield text
                last, quiet = text, 0.0
            elif quiet >= QUIET_SECONDS:
                yield ":\n\n"
                quiet = 0.0
            if over:
                return
            await asyncio.sleep(POLL_SECONDS)
            quiet += POLL_SECONDS
    finally:
        streams.end()


def event(kind: str, data: dict[str, Any]) -> str:
    """One event; json has no line breaks."""
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
