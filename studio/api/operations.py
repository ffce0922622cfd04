"""The table of what the API serves: from it come the routes, the gate's rules and the OpenAPI description."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from studio.api.content import VARIANTS

READ, WRITE = "read", "write"
VIDEO = "/v1/videos/{id}"


@dataclass(frozen=True)
class Operation:
    """One method and path. name: of the handler, and its id in OpenAPI. scope: of the keys that open it, "" for none.

    query: parameters and what they are. body: "create", "remix" or "" for none. answer: the name of a schema of
    openapi.py, or a media type. person: whether a login opens it too; open: whether everybody may.
    """

    name: str
    method: str
    path: str
    scope: str
    about: str
    answer: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    person: bool = False
    open: bool = False


OPERATIONS = (
    Operation("create_video", "POST", "/v1/videos", WRITE, "Ask for a video; it is queued.", "Video", body="create"),
    Operation(
        "list_videos", "GET", "/v1/videos", READ, "Videos by the time they were asked for, page by page.", "VideoList",
        {"limit": "1 to 100, else 20", "after": "the id that the page follows", "order": "desc (newest first) or asc"},
    ),
    Operation("get_video", "GET", VIDEO, READ, "One video: how far it is, how it was made.", "Video"),
    Operation(
        "video_content", "GET", VIDEO + "/content", READ, "The file of a completed video; Range is understood.",
        "video/mp4",
        {"variant": f"{VARIANTS[0]} (where it is missing), {VARIANTS[1]} or {VARIANTS[2]}"},
    ),
    Operation("video_events", "GET", VIDEO + "/events", READ, "The video at every change, until it has ended.",
              "text/event-stream"),
    Operation("delete_video", "DELETE", VIDEO, WRITE, "Stop it if it runs, and remove it with its files.", "Deleted"),
    Operation("remix_video", "POST", VIDEO + "/remix", WRITE, "The same settings and seed with another prompt, queued.",
              "Video", body="remix"),
    Operation("cancel_video", "POST", VIDEO + "/cancel", WRITE, "Stop it; what is done is kept.", "Video"),
    Operation("resume_video", "POST", VIDEO + "/resume", WRITE, "Queue a failed or stopped one again, to go on.",
              "Video"),
    Operation("list_models", "GET", "/v1/models", READ, "The installed models.", "ModelList"),
    Operation("get_model", "GET", "/v1/models/{id}", READ, "One installed model.", "Model"),
    Operation("describe", "GET", "/v1/openapi.json", READ, "This description.", "application/json", person=True),
    Operation("docs", "GET", "/v1/docs", READ, "This description as a page.", "text/html", person=True),
    Operation("health", "GET", "/health", READ, "Whether videos can be made just now: 200 or 503.", "Health",
              open=True),
)  # fmt: skip
