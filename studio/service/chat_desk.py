"""The language model that whoever started the page named with --chat-url, one question at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from studio.chat import Chat
from studio.errors import StudioError


class ChatDesk:
    """What the page may ask. An answer may take minutes, so that a second question meanwhile is refused, not queued."""

    def __init__(self, chat: Chat) -> None:
        self._chat, self._asking = chat, threading.Lock()

    @property
    def host(self) -> str:
        """Where the words go: the server's name and port."""
        return self._chat.host

    def expand(self, prompt: str) -> str:
        """A longer prompt for the same idea. Raises InputError, StudioError."""
        with self._alone():
            return self._chat.expand(prompt)

    def lines(self, idea: str, seconds: float) -> tuple[list[tuple[float, str]], list[str]]:
        """Lines of a voice-over, (second, text) each, and what of the answer is none. Raises as expand."""
        with self._alone():
            return self._chat.lines(idea, seconds)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._asking.acquire(blocking=False):
            raise StudioError("chat_busy", where=self.host)
        try:
            yield
        finally:
            self._asking.release()
