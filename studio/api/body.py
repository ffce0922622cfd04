"""A request's body as plain fields: multipart or url-encoded forms, or json. A file becomes its bytes."""

import json
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from studio.errors import InputError

MOST_FIELDS = 64
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


async def read_fields(request: Request, limit: int) -> dict[str, Any]:
    """The fields of a request. limit: bytes of one field that is no file; the gate counts the whole.

    Raises InputError for a body that is none of these forms, or gives a field twice.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        return await _form(request, limit) if kind in FORMS else _json(await request.body())
    except ClientDisconnect:
        raise InputError("request_unreadable", reason="the client left before it was whole") from None
    except HTTPException as error:
        if error.status_code == 413:
            raise InputError("body_large", limit_mb=limit >> 20) from None
        raise InputError("request_unreadable", reason=str(error.detail)) from None


async def _form(request: Request, limit: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=limit) as form:
        for name, value in form.multi_items():
            if name in found:
                raise InputError("field_twice", field=name[:60], other=name[:60])
            found[name] = await value.read() if isinstance(value, UploadFile) else value
    return found


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InputError("request_unreadable", reason=str(error)) from None
    if not isinstance(found, dict):
        raise InputError("request_unreadable", reason="it is not an object of fields")
    return found
