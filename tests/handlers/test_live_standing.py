"""Credentials of open connections: looked at when they may have ended, and only then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from analytics.state.cache import Cache
from handlers.auth.authenticator import Authentication
from handlers.auth.credentials import Presented
from handlers.live.credential_watch import CredentialWatch
from tests.handlers.fixtures import Serve
from tests.handlers.serving import Served, until
from tests.handlers.world import NOW, USER_1, USER_2, LocalKeys, Person
from tests.security.test_authorization import write


async def authenticated(served: Served, person: Person, **claims: object) -> Authentication:
    token = Presented("token", "bearer", person.token(**claims))
    return await served.services.authenticator.authenticate([token], served.clock())


@pytest.mark.gen_test
async def test_a_change_between_look_up_and_joining_is_not_missed(
    serve: Serve, own_cache: tuple[Cache, LocalKeys]
) -> None:
    served = serve(cache=own_cache)
    dismissed: list[str] = []
    standings: CredentialWatch[str] = CredentialWatch(served.services, dismissed.append)
    caller = await authenticated(served, USER_1)
    write(own_cache[0], "users", [{**USER_1.row(), "is_active": False}], gone=[USER_1.id])
    assert standings.due(NOW) == [], "the change is dealt with before the connection joins"
    standings.add("late", caller)
    await standings.confirm(standings.due(NOW))
    assert dismissed == ["late"]
    await standings.close()


@pytest.mark.gen_test
async def test_nothing_is_looked_at_twice_while_nothing_has_changed(served: Served) -> None:
    standings: CredentialWatch[str] = CredentialWatch(served.services, lambda member: None)
    for member in ("one", "two"):
        standings.add(member, await authenticated(served, USER_1))
    standings.add("three", await authenticated(served, USER_2))
    assert len(standings) == 2, "connections with one credential are one"
    assert len(standings.due(NOW)) == 2
    assert standings.due(NOW) == []
    leeway = served.services.settings.auth.leeway_seconds
    assert standings.due(NOW + timedelta(seconds=3600 + leeway - 2)) == []
    assert len(standings.due(NOW + timedelta(seconds=3600 + leeway + 2))) == 2
    for member in ("one", "two"):
        standings.remove(member, await authenticated(served, USER_1))
    standings.remove("three", await authenticated(served, USER_2))
    assert len(standings) == 0
    await standings.close()


@pytest.mark.gen_test
async def test_an_ended_credential_takes_all_its_connections_and_no_other(served: Served) -> None:
    dismissed: list[str] = []
    standings: CredentialWatch[str] = CredentialWatch(served.services, dismissed.append)
    short = await authenticated(served, USER_1, exp=int(NOW.timestamp()) + 10)
    standings.add("one", short)
    standings.add("two", short)
    standings.add("other", await authenticated(served, USER_1))
    served.clock.advance(60)
    await standings.confirm(standings.due(served.clock()))
    await until(lambda: len(dismissed) == 2)
    assert sorted(dismissed) == ["one", "two"]
    await standings.close()
