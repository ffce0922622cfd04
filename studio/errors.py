"""Errors a user can meet. Their sentences, in both languages, stand in studio.messages.

A `StudioError` carries a code and its values, so that the page can say it in the reader's language and a job can
store it; `str(error)` is the English sentence.
"""

from typing import Any

from studio.messages import message


class StudioError(Exception):
    """A failure with a sentence for the user. `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, code: str, **values: Any) -> None:
        self.code, self.values = code, values
        super().__init__(message(code, values))


class InputError(StudioError):
    """Something the user gave cannot be used; nothing was started."""

    exit_code = 2


class ModelMissing(InputError):
    """The model's files are not on this machine."""


class DoesNotFit(StudioError):
    """No plan keeps the promised budgets."""


class Cancelled(StudioError):
    """The user stopped the job; raised between blocks."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("cancelled")


class RankLost(StudioError):
    """The process of one of several devices that share a video has ended; the latents of the last step are saved.

    killed: by a signal, not by itself.
    """

    def __init__(self, device: str, code: int | None) -> None:
        self.killed = code is not None and code < 0
        how = f"signal {-code}" if code is not None and self.killed else f"code {code}"
        super().__init__("rank_lost", device=device, how=how)
