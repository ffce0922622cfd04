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
