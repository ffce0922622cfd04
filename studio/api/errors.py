"""Errors in the form that existing clients read: {"error": {"message", "type", "param", "code"}}."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from studio.errors import InputError, StudioError
from studio.messages import message
from studio.service.gate import reader_language
from studio.service.submit import Rejected

# Status of an error by its code; else 400 for what the client gave and 500 for what went wrong here.
STATUSES = {
    "model_absent": 404,
    "video_absent": 404,
    "video_unready": 404,
    "video_file_gone": 404,
    "not_served": 404,
    "body_large": 413,
    "job_running": 409,
    "queue_elsewhere": 409,
    "video_not_running": 409,
    "video_not_resumable": 409,
    "request_key_reused": 409,
    "queue_busy": 503,
    "streams_busy": 503,
}
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# The field that an error is about, where its values do not name one.
PARAMS = {
    "prompt_empty": "prompt",
    "prompt_long": "prompt",
    "frames_step": "num_frames",
    "frames_many": "num_frames",
    "motion_unused": "motion_score",
    "camera_unknown": "camera_move",
    "model_unknown": "model",
    "model_absent": "model",
    "speed_turbo": "speed",
    "gpus_unguided": "cfg_scale",
    "preset_unknown": "preset",
    "request_key": "Idempotency-Key",
    "request_key_reused": "Idempotency-Key",
}
PICTURE = "input_reference"  # the field of errors whose codes begin with image_


def error_body(status: int, code: str, sentence: str, param: str | None = None) -> Mapping[str, Any]:
    """What an error says; also how the gate refuses under the API's paths."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": sentence, "type": kind, "param": param, "code": code}}


def error_answer(error: StudioError, request: Request) -> JSONResponse:
    """The answer to a request that failed, in the language that its reader accepts."""
    status = STATUSES.get(error.code, 400 if isinstance(error, InputError) else 500)
    language = reader_language(request.headers.get("accept-language", ""))
    problems = error.problems if isinstance(error, Rejected) else (error,)
    sentence = " ".join(message(problem.code, problem.values, language) for problem in problems)
    # Clients of this dialect repeat a 409 by themselves; here it comes again until the client does something else.
    headers = {"Retry-After": "1"} if status == 503 else {"x-should-retry": "false"} if status < 500 else {}
    return JSONResponse(error_body(status, error.code, sentence, _param(error)), status, headers)


def _param(error: StudioError) -> str | None:
    named = error.values.get("field") or PARAMS.get(error.code)
    return str(named) if named else PICTURE if error.code.startswith("image_") else None
