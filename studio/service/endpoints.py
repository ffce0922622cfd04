"""What is served beside the page on its server, as the HTTP API is: routes with their rules and keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.routing import Route

from studio.service.gate import KeyChecker, RefusalBody, Rule, no_keys


@dataclass(frozen=True)
class Endpoints:
    """Routes, what the gate lets through to them, who has a key, and what refusals say there (see Gate)."""

    routes: Sequence[Route] = ()
    rules: Sequence[Rule] = ()
    keys: KeyChecker = no_keys
    bodies: Mapping[str, RefusalBody] = field(default_factory=dict)


NOTHING = Endpoints()
