"""A language model that the user runs or names: any server with OpenAI's chat completions, Step-Audio-Chat by vLLM too.

Nothing is sent anywhere but to the address that is given; no redirect is followed and no proxy is used. What comes back
is a stranger's text: cut, cleaned, and shown before anything is done with it.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from studio.errors import InputError, StudioError
from studio.messages import clean

ANSWER_BYTES = 1 << 20
SECONDS_LIMIT = 300.0
TEXT_LIMIT = 2000  # characters that are asked with, and of each text that comes back
MOST_LINES = 64
PROMPT_TASK = (
    "You write prompts for a text-to-video model. Expand the user's idea into one paragraph that describes subject, "
    "action, place, light and camera of a single shot of a few seconds. Write in the user's language, at most 120 "
    "words. Answer with the paragraph alone."
)
LINES_TASK = (
    "You write the voice-over of a video that is {seconds:g} seconds long. Speech takes about a second for 2 English "
    "words or 4 Chinese characters. Write in the user's language, each line as SECONDS: TEXT, with the second at which "
    "the line begins. Answer with these lines alone."
)
_LINE = re.compile(r"[\s\-*>\[(]*(\d{1,3}(?:\.\d+)?)\s*(?:s|秒)?\s*[\])]?\s*[:：]\s*(\S.*)")
_THOUGHT = re.compile(r"<think>.*?</think>", re.S)  # what models that reason say to themselves


@dataclass(frozen=True)
class Chat:
    """A server. url: its address, with or without /v1; model: its name there, None for the first that it lists."""

    url: str
    model: str | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """InputError for what is no address of a server."""
        try:
            parts = urlsplit(self.url)
            fits = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
        except ValueError:
            fits = False
        if not fits or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise InputError("chat_url", value=self.url)

    def expand(self, prompt: str) -> str:
        """A longer prompt for the same idea. Raises InputError, StudioError."""
        answer = " ".join(self._ask(PROMPT_TASK, prompt).split())
        if not answer:
            raise StudioError("chat_failed", where=self.host, reason="its answer is empty")
        return clean(answer, TEXT_LIMIT)

    def lines(self, idea: str, seconds: float) -> tuple[list[tuple[float, str]], list[str]]:
        """Lines of a voice-over, (second, text) each, and what of the answer is none. Raises as expand."""
        found: list[tuple[float, str]] = []
        other = []
        for row in filter(str.strip, self._ask(LINES_TASK.format(seconds=seconds), idea).splitlines()):
            match = _LINE.fullmatch(row.rstrip())
            if match and float(match[1]) < seconds and len(found) < MOST_LINES:
                found.append((float(match[1]), clean(match[2].strip(), TEXT_LIMIT)))
            else:
                other.append(clean(row.strip()))
        if not found:
            raise StudioError("chat_failed", where=self.host, reason="it wrote no line as SECONDS: TEXT")
        return found, other

    @property
    def host(self) -> str:
        """Where the words go: the server's name and port."""
        return urlsplit(self.url).netloc

    def _ask(self, task: str, text: str) -> str:
        if not text.strip() or len(text) > TEXT_LIMIT:
            raise InputError("chat_text", length=len(text), limit=TEXT_LIMIT)
        messages = [{"role": "system", "content": task}, {"role": "user", "content": text}]
        asked = {"model": self.model or self._first_model(), "messages": messages, "max_tokens": 1024}
        answer = self._request("chat/completions", asked)
        try:
            content = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise StudioError("chat_failed", where=self.host, reason="its answer holds no text")
        return _THOUGHT.sub("", content)

    def _first_model(self) -> str:
        try:
            return str(self._request("models", None)["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise StudioError("chat_failed", where=self.host, reason="it lists no model") from None

    def _request(self, path: str, data: Any) -> Any:
        """The json that the server answers. Raises StudioError with its reason, or the network's."""
        base = self.url.rstrip("/").removesuffix("/v1")
        body = None if data is None else json.dumps(data).encode()
        request = Request(f"{base}/v1/{path}", body, {"Content-Type": "application/json"})
        end = self.clock() + SECONDS_LIMIT
        try:
            with _opener().open(request, timeout=SECONDS_LIMIT) as answer:
                return json.loads(self._read(answer, end))
        except HTTPError as error:
            reason = f"it answered {error.code} {error.reason}"
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise StudioError("chat_failed", where=self.host, reason=reason)

    def _read(self, answer: IO[bytes], end: float) -> bytes:
        found = b""
        while part := answer.read(65536):
            found += part
            if len(found) > ANSWER_BYTES:
                raise ValueError(f"its answer is longer than {ANSWER_BYTES >> 20} MB")
            if self.clock() > end:
                raise TimeoutError(f"it took more than {SECONDS_LIMIT:.0f} seconds")
        return found


class _NoRedirect(HTTPRedirectHandler):
    """An answer that points elsewhere stays an error: the text is for the named server alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener() -> OpenerDirector:
    return build_opener(ProxyHandler({}), _NoRedirect())
