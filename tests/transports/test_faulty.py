"""Links that fail on purpose fail as planned, and otherwise keep the contract."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import trio.testing

import transports
from transports.base import Frame, FramingError, Link
from transports.faulty import Cut, FaultyLink, FaultyListener, FaultyProxy, Plan
from transports.faulty import connect as faulty_connect
from transports.testing import CLAUSES, Subject, check_clause, url_pair


@asynccontextmanager
async def planned_pair(plan: Plan) -> AsyncIterator[tuple[FaultyLink, Link]]:
    """A faulty link and its sound peer."""
    async with url_pair("memory://faulty") as (left, right):
        yield FaultyLink(left, plan), right


async def until_end(link: Link) -> tuple[list[Frame], Exception]:
    """Everything that arrives, and why no more does."""
    frames: list[Frame] = []
    while True:
        try:
            frames += await link.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError) as end:
            return frames, end


@pytest.mark.anyio
@pytest.mark.parametrize("clause", [name for name in CLAUSES if "listener" not in name])
async def test_without_faults(clause: str) -> None:
    """A faulty link with an empty plan keeps the contract."""
    numbers = iter(range(100))

    @asynccontextmanager
    async def make_pair() -> AsyncIterator[tuple[Link, Link]]:
        async with url_pair(f"memory://faultless{next(numbers)}") as (left, right):
            yield FaultyLink(left, Plan()), FaultyLink(right, Plan())

    await check_clause(clause, Subject(make_pair=make_pair))


@pytest.mark.anyio
@pytest.mark.parametrize(("when", "passing"), [("before", 2), ("after", 3)])
async def test_cuts(when: str, passing: int) -> None:
    """A cut in either direction lets exactly the frames before it pass, and looks like a broken link."""
    sent: list[Frame] = [f"{n}" for n in range(5)]
    cut = Cut(index=2, when=when)  # type: ignore[arg-type]
    async with planned_pair(Plan(send_cut=cut)) as (left, right):
        left.send(sent)
        assert (await until_end(right))[0] == sent[:passing]
        with pytest.raises(anyio.BrokenResourceError):
            left.send(["more"])
        with pytest.raises(anyio.BrokenResourceError):
            await left.receive()
    async with planned_pair(Plan(receive_cut=cut)) as (left, right):
        right.send(sent)
        frames, end = await until_end(left)
        assert frames == sent[:passing]
        assert isinstance(end, anyio.BrokenResourceError)
        await until_end(right)


@pytest.mark.anyio
async def test_holds() -> None:
    """Held frames wait for their release, in order, in either direction."""
    async with planned_pair(Plan(send_hold_from=1, receive_hold_from=1)) as (left, right):
        left.send(["a", "b"])
        left.send(["c"])
        assert await right.receive() == ["a"]
        left.release("send")
        assert await right.receive() == ["b", "c"]
        right.send(["d", "e"])
        assert await left.receive() == ["d"]
        left.release("receive")
        assert await left.receive() == ["e"]


def test_delays_take_the_planned_time() -> None:
    """Delays are drawn from the seed and pass on trio's clock, which jumps: the test takes no time."""

    async def main() -> float:
        async with url_pair("memory://slow") as (left, right):
            link = FaultyLink(left, Plan(receive_delay_seconds=(10, 20)), random.Random(7))
            right.send(["a"])
            assert await link.receive() == ["a"]
            return trio.current_time()

    starts = []
    for _ in range(2):
        clock = trio.testing.MockClock(autojump_threshold=0)

        async def timed() -> float:
            start = trio.current_time()
            return await main() - start

        starts.append(trio.run(timed, clock=clock))
    assert starts[0] == pytest.approx(starts[1])
    assert 10 <= starts[0] <= 20


def test_plans_from_a_seed() -> None:
    """The same seed draws the same plans, and all kinds are drawn."""
    plans = [Plan.draw(random.Random(seed), 10) for seed in range(50)]
    assert plans == [Plan.draw(random.Random(seed), 10) for seed in range(50)]
    assert any(plan.send_cut for plan in plans)
    assert any(plan.receive_cut for plan in plans)
    assert any(plan == Plan() for plan in plans)


async def echo(link: Link) -> None:
    """Send back what comes."""
    while True:
        link.send(await link.receive())


@pytest.mark.anyio
async def test_faulty_listener_and_connect() -> None:
    """Each accepted link has the plan of its number, and a connecting one its own."""
    plans = [Plan(send_cut=Cut(index=0)), Plan()]
    listener = FaultyListener(await transports.listen("memory://planned"), plans.__getitem__)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with transports.connect(listener.url) as link:
            link.send(["lost"])
            assert (await until_end(link))[0] == []
        async with faulty_connect(listener.url, Plan(receive_cut=Cut(index=1))) as link:
            link.send(["kept", "lost"])
            assert (await until_end(link))[0] == ["kept"]
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def proxied(scheme: str) -> AsyncIterator[FaultyProxy]:
    """An echoing listener behind a proxy."""
    listener = await transports.listen(f"{scheme}://127.0.0.1:0")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with FaultyProxy(listener.url) as proxy:
            yield proxy
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_split_writes(scheme: str) -> None:
    """Bytes that come one by one, handshakes included, still make whole frames."""
    async with proxied(scheme) as proxy:
        proxy.to_server.split = proxy.to_client.split = True
        async with transports.connect(proxy.url) as link:
            sent: list[Frame] = [b"one", "zwei", b"x" * 300]
            link.send(sent)
            arrived: list[Frame] = []
            while len(arrived) < 3:
                arrived += await link.receive()
            assert arrived == sent


@pytest.mark.anyio
async def test_cut_inside_a_frame() -> None:
    """A connection cut inside a frame gives the frames before it and then a framing error."""
    async with proxied("tcp") as proxy:
        proxy.to_client.cut_after = (4 + 3) + 4 + 1
        async with transports.connect(proxy.url) as link:
            link.send([b"one", b"two"])
            frames, end = await until_end(link)
            assert frames == [b"one"]
            assert isinstance(end, FramingError)
        proxy.renew()
        async with transports.connect(proxy.url) as link:
            link.send([b"again"])
            assert await link.receive() == [b"again"]


@pytest.mark.anyio
async def test_stalled_direction() -> None:
    """While one direction stalls, nothing is lost; on resume everything comes."""
    async with proxied("tcp") as proxy, transports.connect(proxy.url) as link:
        proxy.to_client.stall()
        link.send([b"one"])
        while proxy.to_server.passed < 7:
            await anyio.lowlevel.checkpoint()
        assert proxy.to_client.passed == 0
        proxy.to_client.resume()
        assert await link.receive() == [b"one"]
