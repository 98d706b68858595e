"""The routes' access rules. A route without one prevents the server from starting."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tornado.routing import URLSpec
from tornado.web import RequestHandler


class Access(Enum):
    """Who may use a route. Checked in this order: credential, organization, role."""

    PUBLIC = "anyone"
    LOCAL = "a direct loopback peer, or an admin's credential"
    ORGANIZATION = "a caller with an organization"
    ANALYST = "an analyst or admin of an organization"
    ADMIN = "an admin of an organization"


@dataclass(frozen=True)
class Route:
    """A path pattern and its handler. `name` is its label in metrics; it contains nothing from a request."""

    pattern: str
    handler: type[RequestHandler]
    access: Access | None
    name: str
    methods: tuple[str, ...] = ("GET", "HEAD")
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        return ", ".join((*self.methods, "OPTIONS"))


class UndeclaredAccessError(RuntimeError):
    """A route without an access rule, or a path of the API that anyone could use."""


def check_routes(routes: list[Route]) -> None:
    """Raises `UndeclaredAccessError` naming each route under /api/ without a rule that asks for a credential."""
    undeclared = [
        route.name
        for route in routes
        if route.access is None or (route.pattern.startswith("/api") and route.access in (Access.PUBLIC, Access.LOCAL))
    ]
    if undeclared:
        raise UndeclaredAccessError(f"routes without an access rule: {', '.join(undeclared)}; give each an Access")


def url_specs(routes: list[Route], services: Any) -> list[URLSpec]:
    check_routes(routes)
    return [
        URLSpec(route.pattern, route.handler, {"services": services, "route": route, **route.options})
        for route in routes
    ]
