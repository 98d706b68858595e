"""The fixtures of the handlers room."""

from tests.handlers.fixtures import no_stray_loop, own_cache, serve, served, world_cache

__all__ = ["no_stray_loop", "own_cache", "serve", "served", "world_cache"]
