"""The OpenAPI description of the API, and the same as a page that loads nothing from elsewhere."""

from collections.abc import Mapping
from html import escape
from typing import Any

from studio import __version__
from studio.api.fields import FIELDS, NESTED, OTHER_FIELDS, PICTURES
from studio.api.operations import OPERATIONS, Operation

JSON_TYPES = {str: "string", int: "integer", float: "number"}
FORM = "multipart/form-data"
TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
EMPTY_TEXT, EMPTY_WHOLE = {"type": ["string", "null"]}, {"type": ["integer", "null"]}
SCHEMAS: dict[str, Mapping[str, Any]] = {
    "Video": {
        "id": TEXT,
        "object": {"const": "video"},
        "model": TEXT,
        "status": {"enum": ["queued", "in_progress", "completed", "failed"]},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created_at": WHOLE,
        "completed_at": EMPTY_WHOLE,
        "prompt": TEXT,
        "seconds": TEXT,
        "size": TEXT,
        "num_frames": WHOLE,
        "seed": WHOLE,
        "remixed_from_video_id": EMPTY_TEXT,
        "error": {"type": ["object", "null"]},
        "resumable": FLAG,
    },
    "Model": {"id": TEXT, "object": {"const": "model"}, "takes_image": FLAG, "max_frames": WHOLE},
    "Deleted": {"id": TEXT, "object": {"const": "video.deleted"}, "deleted": FLAG},
    "Health": {"status": {"enum": ["ok", "unavailable"]}},
    "VideoList": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Video"}},
        "first_id": EMPTY_TEXT,
        "last_id": EMPTY_TEXT,
        "has_more": FLAG,
    },
    "ModelList": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    },
    "Error": {
        "error": {
            "type": "object",
            "properties": {"message": TEXT, "type": TEXT, "param": EMPTY_TEXT, "code": TEXT},
        }
    },
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em;border-radius:4px}td,th{padding:.2rem .8rem .2rem 0;text-align:left;"
    "vertical-align:top}h2{margin-top:2rem}"
)


def describe() -> dict[str, Any]:
    """The description as OpenAPI 3.1 has it."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    schemas = {name: {"type": "object", "properties": fields} for name, fields in SCHEMAS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Step-Video Studio", "version": __version__},
        "security": [{"key": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def body_fields(body: str) -> dict[str, Mapping[str, Any]]:
    """The fields of a request by name, as json schemas with a description."""
    fields: dict[str, Mapping[str, Any]] = {
        name: {"type": JSON_TYPES[known.kind], "description": known.about} for name, known in FIELDS.items()
    }
    for name, about in OTHER_FIELDS.items():
        kind = "object" if name in NESTED else "number" if name == "fps" else "string"
        fields[name] = {"type": ["string", "object"] if name in PICTURES else kind, "description": about}
    fixed = {"model", "preset", *PICTURES} if body == "remix" else set()
    return {name: field for name, field in fields.items() if name not in fixed}


def _operation(operation: Operation) -> dict[str, Any]:
    places = [("id", "path", "")] if "{id}" in operation.path else []
    places += [(name, "query", about) for name, about in operation.query.items()]
    parameters = [
        {"name": name, "in": place, "required": place == "path", "schema": TEXT, "description": about}
        for name, place, about in places
    ]
    if operation.body:
        about = "The same key and request make one video, however often they are sent."
        parameters.append(
            {"name": "Idempotency-Key", "in": "header", "required": False, "schema": TEXT, "description": about}
        )
    named = operation.answer in SCHEMAS
    shown = {"$ref": f"#/components/schemas/{operation.answer}"} if named else {}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": operation.about,
                "content": {"application/json" if named else operation.answer: {"schema": shown}},
            },
            "4XX": {"description": "What is wrong, and what to change.", "content": error},
        },
    }
    if operation.body:
        schema = {"type": "object", "properties": body_fields(operation.body), "required": ["prompt"]}
        kinds = (FORM, "application/json")
        found["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}
    return found | ({"security": []} if operation.open else {})


def page() -> str:
    """The description for people."""
    parts = []
    for operation in OPERATIONS:
        parts.append(f"<h2 id='{operation.name}'><code>{operation.method} {escape(operation.path)}</code></h2>")
        opened = "open to everybody" if operation.open else f"needs a {operation.scope} key"
        parts.append(f"<p>{escape(operation.about)} It is {opened}.</p>".replace("It is needs", "It needs"))
        rows = dict(operation.query)
        if operation.body:
            rows |= {name: field["description"] for name, field in body_fields(operation.body).items()}
        cells = [
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(about)}</td></tr>" for name, about in rows.items()
        ]
        parts.append(f"<table>{''.join(cells)}</table>" if cells else "")
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Step-Video Studio: HTTP API</title>"
        f"<style>{STYLE}</style><h1>Step-Video Studio: HTTP API</h1>"
        "<p>Send <code>Authorization: Bearer KEY</code>. The same for programs: "
        f"<a href='openapi.json'>openapi.json</a>.</p>{''.join(parts)}</html>"
    )
