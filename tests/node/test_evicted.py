"""What was loaded for a command and left memory before it could run is loaded again."""

from __future__ import annotations

from receipts.node.accounts import sign_token
from receipts.node.commands import Sweep
from receipts.node.upkeep import EVICT_EVERY_MS
from receipts.wire import VERSION, commands
from tests.node.playbook import Playbook


def test_login_outlives_an_eviction_between_its_loads() -> None:
    """A login loads the account, then its outbox; an account that rests is let go in between, and the login
    is no less good."""
    book = Playbook()
    book.user("alice")
    hub = book.hub
    row = book.store.user("default", "alice")
    assert row is not None
    token = sign_token(hub.world.secret, row.user, expires_ms=book.now_ms + 10**10)
    hello = commands.Hello(rid=1, version=VERSION, user="alice", device="phone", install="i", token=token)
    app = hub.world.apps["default"]

    def evict() -> None:
        book.now_ms += EVICT_EVERY_MS + 1
        tick = hub.apply([(book.system, Sweep())], book.now_ms)
        book.pipeline.add(tick)

    evict()
    assert "alice" not in app.users
    device = book._attach(hub.open(link=object(), peer="phone"), "alice/phone")
    tick = hub.apply([(device.session, hello)], book.now_ms)
    book.pipeline.add(tick)
    loads = list(tick.loads)
    evicted = False
    while loads:
        need = loads.pop(0)
        tick = hub.learn(need, getattr(book.store, need.method)(*need.arguments), book.now_ms)
        book.pipeline.add(tick)
        loads += tick.loads
        if need.method == "user" and not evicted:
            evicted = True
            evict()
            assert "alice" not in app.users
    book._advance()
    assert evicted
    assert device.session.logged_in
