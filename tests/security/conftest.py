"""The fixtures of the handlers room."""

from tests.handlers.fixtures import app, no_stray_loop, own_cache, serve, served, world_cache

__all__ = ["app", "no_stray_loop", "own_cache", "serve", "served", "world_cache"]
