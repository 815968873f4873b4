"""The contract of `transports.base` as a test, for our transports and for yours.

`check_transport` runs every clause; `CLAUSES` holds them one by one, for pytest to parametrize over.
A clause that does not hold raises `AssertionError` with its name. Nothing here knows how a link is made: you
give a function that makes a pair of them. `url_pair` is one, for anything with a URL.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

import transports
from transports.base import Frame, FrameTooLarge, Link, Listener, frame_size

__all__ = ["CLAUSES", "Pairs", "Subject", "check_clause", "check_transport", "url_pair"]

Pairs = Callable[[], AbstractAsyncContextManager[tuple[Link, Link]]]
"""Makes two fresh links that are each other's peer, and ends them."""

_CLAUSE_SECONDS_MAX = 30.0
"""A clause that takes longer hangs: each moves at most some ten megabytes, once."""

_BACKPRESSURE_BYTES = 24 << 20
"""More than the buffers of a socket hold on both sides (Linux: 4 MiB to send and 6 MiB to receive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A transport under test."""

    make_pair: Pairs
    """Two links of equal limits."""
    frame_bytes_max: int = 1 << 20
    """The limit of those links, in bytes, inclusive."""
    make_uneven_pair: Pairs | None = None
    """Two links of which the first may send at least twice the `frame_bytes_max` that the second accepts;
    absent means that ``frame_too_large`` is not checked."""
    open_listener: Callable[[], Awaitable[Listener]] | None = None
    """Makes a listener; absent means that the clauses about listeners are not checked."""
    connect_to: Callable[[Listener], AbstractAsyncContextManager[Link]] | None = None
    """Opens a link to it; goes with `open_listener`."""


Clause = Callable[[Subject], Awaitable[None]]

CLAUSES: dict[str, Clause] = {}
"""Every clause of the contract by its name. Run one by `check_clause`."""


def _clause(function: Clause) -> Clause:
    CLAUSES[function.__name__.lstrip("_")] = function
    return function


async def check_transport(
    make_pair: Pairs,
    *,
    frame_bytes_max: int = 1 << 20,
    make_uneven_pair: Pairs | None = None,
    open_listener: Callable[[], Awaitable[Listener]] | None = None,
    connect_to: Callable[[Listener], AbstractAsyncContextManager[Link]] | None = None,
) -> None:
    """Check that a transport keeps the whole contract; the arguments are the fields of `Subject`.

    Raises:
        AssertionError: If it does not; the message starts with the name of the first clause that fails.
    """
    subject = Subject(
        make_pair=make_pair,
        frame_bytes_max=frame_bytes_max,
        make_uneven_pair=make_uneven_pair,
        open_listener=open_listener,
        connect_to=connect_to,
    )
    for name in CLAUSES:
        await check_clause(name, subject)


async def check_clause(name: str, subject: Subject) -> None:
    """Check one clause.

    Raises:
        AssertionError: If it does not hold, or did not come to an end.
    """
    try:
        with anyio.fail_after(_CLAUSE_SECONDS_MAX):
            await CLAUSES[name](subject)
    except TimeoutError as error:
        raise AssertionError(f"{name}: hangs") from error
    except Exception as error:
        cause = _first(error)
        raise AssertionError(f"{name}: {cause!r}") from cause


def _first(error: BaseException) -> BaseException:
    """Return what a task group of the caller's may have wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def url_pair(
    url: str,
    *,
    server_context: ssl.SSLContext | None = None,
    client_context: ssl.SSLContext | None = None,
    frame_bytes_max: tuple[int, int] = (1 << 20, 1 << 20),
) -> AsyncIterator[tuple[Link, Link]]:
    """Listen at a URL, connect to it, and yield both ends: the connecting one first.

    Args:
        url: See `transports.listen`.
        server_context: For the listener.
        client_context: For the connecting end.
        frame_bytes_max: The limits of the connecting and of the accepted link.
    """
    listener = await transports.listen(url, ssl_context=server_context, frame_bytes_max=frame_bytes_max[1])
    accepted: list[Link] = []
    arrived, done = anyio.Event(), anyio.Event()

    async def keep(link: Link) -> None:
        accepted.append(link)
        arrived.set()
        await done.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, keep)
        async with transports.connect(
            listener.url, ssl_context=client_context, frame_bytes_max=frame_bytes_max[0]
        ) as link:
            await arrived.wait()
            try:
                yield link, accepted[0]
            finally:
                done.set()
        tasks.cancel_scope.cancel()


async def _receive_count(link: Link, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        more = await link.receive()
        assert more, "receive() returned no frames"
        frames += more
    assert len(frames) == count, f"{len(frames)} frames arrived instead of {count}"
    return frames


async def _receive_until_end(link: Link) -> tuple[list[Frame], Exception]:
    frames: list[Frame] = []
    while True:
        try:
            frames += await link.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as end:
            return frames, end


def _assert_same(arrived: list[Frame], sent: list[Frame]) -> None:
    assert len(arrived) == len(sent), f"{len(sent)} frames were sent, {len(arrived)} arrived"
    for index, (got, wanted) in enumerate(zip(arrived, sent, strict=True)):
        same = type(got) is type(wanted) and got == wanted
        assert same, f"frame {index} was sent as {wanted[:40]!r} and arrived as {got[:40]!r}"


def _assert_refused(call: Callable[[], object], expected: type[Exception], when: str) -> None:
    try:
        call()
    except expected:
        return
    raise AssertionError(f"{when}, send() must raise {expected.__name__}")


@_clause
async def _frames_arrive_whole_and_in_order(subject: Subject) -> None:
    """Binary and text, empty and not, both ways, arrive as they were sent."""
    sent: list[Frame] = [b"", "", b"\x00\xff", "plain", "ünï€𐍈", b"x" * 1000, "y" * 1000]
    sent += [str(n) if n % 2 else str(n).encode() for n in range(200)]
    async with subject.make_pair() as (left, right):
        left.send(sent)
        right.send(sent[::-1])
        _assert_same(await _receive_count(right, len(sent)), sent)
        _assert_same(await _receive_count(left, len(sent)), sent[::-1])


@_clause
async def _largest_frame(subject: Subject) -> None:
    """A frame of exactly the limit passes, as bytes and as text."""
    limit = subject.frame_bytes_max
    sent: list[Frame] = [b"x" * limit, "y" * limit, "é" * (limit // 2)]
    async with subject.make_pair() as (left, right):
        left.send(sent)
        _assert_same(await _receive_count(right, 3), sent)


@_clause
async def _too_large_to_send(subject: Subject) -> None:
    """A frame over the limit, or no frame at all, is refused where it is sent, with its whole batch."""
    limit = subject.frame_bytes_max
    async with subject.make_pair() as (left, right):
        for bad in (b"x" * (limit + 1), "y" * (limit + 1), "é" * (limit // 2 + 1)):
            size = frame_size(bad)
            _assert_refused(
                lambda bad=bad: left.send([b"no", bad]),  # type: ignore[misc]
                ValueError,
                f"given a frame of {size} bytes where the limit is {limit}",
            )
        _assert_refused(lambda: left.send([b"no", 7]), TypeError, "given an int")  # type: ignore[list-item]
        left.send([b"yes"])
        _assert_same(await right.receive(), [b"yes"])


@_clause
async def _all_frames_at_hand(subject: Subject) -> None:
    """One `receive` gives many frames: a batch sent at once does not take a wake-up for each."""
    sent: list[Frame] = [b"%d" % n for n in range(100)]
    async with subject.make_pair() as (left, right):
        left.send(sent)
        calls = 0
        arrived: list[Frame] = []
        while len(arrived) < len(sent):
            arrived += await right.receive()
            calls += 1
        _assert_same(arrived, sent)
        assert calls <= 10, f"100 small frames, sent at once, took {calls} calls of receive()"


@_clause
async def _send_is_synchronous(subject: Subject) -> None:
    """A thousand sends without a single `await` between them all arrive, in order; no frames are no error."""
    sent: list[Frame] = [f"{n}" for n in range(1000)]
    async with subject.make_pair() as (left, right):
        for frame in sent:
            left.send([frame])
            left.send([])
        _assert_same(await _receive_count(right, 1000), sent)


@_clause
async def _backpressure(subject: Subject) -> None:
    """`buffered` grows while the peer does not receive, and `drained` returns only when it does."""
    size = min(subject.frame_bytes_max, 64 << 10)
    count = _BACKPRESSURE_BYTES // size
    async with subject.make_pair() as (left, right), anyio.create_task_group() as tasks:
        await left.drained()
        for _ in range(count):
            left.send([b"x" * size])
        assert left.buffered > 0, f"{count * size} bytes were sent, none received, and buffered is 0"
        await left.drained(below=count * (size + 64))
        drained = anyio.Event()

        async def drain() -> None:
            await left.drained()
            drained.set()

        tasks.start_soon(drain)
        await anyio.wait_all_tasks_blocked()
        assert not drained.is_set(), "drained() returned although the peer has received nothing"
        assert left.buffered > 0, "buffered is 0 although the peer has received nothing"
        for frame in await _receive_count(right, count):
            assert len(frame) == size
        await drained.wait()
        assert left.buffered == 0, f"after drained(), buffered is {left.buffered}"


async def _close_one(closer: Link, other: Link) -> None:
    big: list[Frame] = [b"z" * 50_000] * 40
    other.send([b"never received"] * 100)
    closer.send(big)
    closer.send(["last words"])
    closer.close()
    frames, end = await _receive_until_end(other)
    _assert_same(frames, [*big, "last words"])
    assert isinstance(end, anyio.EndOfStream), f"after the peer's close(), receive() raised {end!r}"
    try:
        await other.receive()
    except anyio.EndOfStream:
        pass
    else:
        raise AssertionError("a second receive() after the end did not raise EndOfStream")
    _assert_refused(lambda: other.send([b"x"]), anyio.BrokenResourceError, "after the peer's close()")
    await closer.wait_closed()
    await other.wait_closed()


@_clause
async def _close_delivers_what_was_sent(subject: Subject) -> None:
    """Closed from either side: what was sent arrives, then `EndOfStream`, though the peer sends too."""
    async with subject.make_pair() as (left, right):
        await _close_one(left, right)
    async with subject.make_pair() as (left, right):
        await _close_one(right, left)


@_clause
async def _closed_here(subject: Subject) -> None:
    """After `close`, everything raises `ClosedResourceError`, also a `receive` that is waiting already."""
    async with subject.make_pair() as (left, _right), anyio.create_task_group() as tasks:
        ends: list[Exception] = []

        async def wait() -> None:
            ends.append((await _receive_until_end(left))[1])

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        left.close()
        left.close()
        await left.wait_closed()
        await wait()
        while len(ends) < 2:
            await checkpoint()
        for end in ends:
            assert isinstance(end, anyio.ClosedResourceError), f"after close(), receive() raised {end!r}"
        _assert_refused(lambda: left.send([b"x"]), anyio.ClosedResourceError, "after close()")
        try:
            await left.drained()
        except anyio.ClosedResourceError:
            pass
        else:
            raise AssertionError("after close(), drained() did not raise ClosedResourceError")
        assert left.buffered == 0, f"after wait_closed(), buffered is {left.buffered}"
        left.abort()


@_clause
async def _both_close(subject: Subject) -> None:
    """When both sides close at once, both are soon gone."""
    async with subject.make_pair() as (left, right):
        left.close()
        right.close()
        await left.wait_closed()
        await right.wait_closed()


@_clause
async def _cancelled_receive_loses_nothing(subject: Subject) -> None:
    """A `receive` that is cancelled, at whatever moment, leaves its frames to the next one."""
    arrived: list[Frame] = []
    async with subject.make_pair() as (left, right):

        async def receive_some() -> None:
            arrived.extend(await right.receive())

        for moment in range(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive_some)
                await anyio.wait_all_tasks_blocked()
                left.send([f"{moment}"])
                for _ in range(moment % 8):
                    await checkpoint()
                tasks.cancel_scope.cancel()
        left.send(["end"])
        while not arrived or arrived[-1] != "end":
            await receive_some()
    _assert_same(arrived, [*(f"{moment}" for moment in range(40)), "end"])


@_clause
async def _one_receiver(subject: Subject) -> None:
    """A second task in `receive` is told that it is one too many."""
    async with subject.make_pair() as (left, right), anyio.create_task_group() as tasks:
        tasks.start_soon(right.receive)
        await anyio.wait_all_tasks_blocked()
        try:
            await right.receive()
        except anyio.BusyResourceError:
            pass
        else:
            raise AssertionError("two tasks may wait in receive() at once")
        try:
            await right.receive_into(lambda frames: True)
        except anyio.BusyResourceError:
            pass
        else:
            raise AssertionError("a task may wait in receive_into() while another does in receive()")
        left.send([b"go on"])


@_clause
async def _receives_into_a_call(subject: Subject) -> None:
    """`receive_into` hands over every frame once and in order, stops when told to, and leaves the rest."""
    sent: list[Frame] = [f"{number}" for number in range(300)]
    arrived: list[Frame] = []

    def take(frames: list[Frame]) -> bool:
        assert frames, "receive_into() handed over no frames"
        arrived.extend(frames)
        return "hold" not in frames and arrived[-1] != sent[-1]

    async with subject.make_pair() as (left, right), anyio.create_task_group() as tasks:
        left.send(["hold"])
        await right.receive_into(take)
        _assert_same(arrived, ["hold"])
        tasks.start_soon(right.receive_into, take)
        await anyio.wait_all_tasks_blocked()
        for start in range(0, len(sent), 50):
            left.send(sent[start : start + 50])
            await checkpoint()
    _assert_same(arrived[1:], sent)


@_clause
async def _receives_into_a_call_until_the_end(subject: Subject) -> None:
    """`receive_into` ends as `receive` does, after the last frame; an error of the call's own comes out."""

    def fail(frames: list[Frame]) -> bool:
        raise LookupError(frames[0])

    arrived: list[Frame] = []

    def keep(frames: list[Frame]) -> bool:
        arrived.extend(frames)
        return True

    async with subject.make_pair() as (left, right):
        async with anyio.create_task_group() as tasks:

            async def expect_error() -> None:
                try:
                    await right.receive_into(fail)
                except LookupError as error:
                    _assert_same(list(error.args), ["first"])
                else:
                    raise AssertionError("an error of the call did not come out of receive_into()")

            tasks.start_soon(expect_error)
            await anyio.wait_all_tasks_blocked()
            left.send(["first"])
        left.send(["second", b"third"])
        left.close()
        try:
            await right.receive_into(keep)
        except anyio.EndOfStream:
            pass
        else:
            raise AssertionError("receive_into() returned although its call wanted more")
    _assert_same(arrived, ["second", b"third"])


@_clause
async def _cancelled_receive_into_loses_nothing(subject: Subject) -> None:
    """A `receive_into` that is cancelled, at whatever moment, leaves to the next one what it did not take."""
    arrived: list[Frame] = []

    def keep(frames: list[Frame]) -> bool:
        arrived.extend(frames)
        return "end" not in frames

    async with subject.make_pair() as (left, right):
        for moment in range(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(right.receive_into, keep)
                await anyio.wait_all_tasks_blocked()
                left.send([f"{moment}"])
                for _ in range(moment % 8):
                    await checkpoint()
                tasks.cancel_scope.cancel()
        left.send(["end"])
        await right.receive_into(keep)
    _assert_same(arrived, [*(f"{moment}" for moment in range(40)), "end"])


@_clause
async def _abort_is_noticed(subject: Subject) -> None:
    """`abort` ends both sides: `ClosedResourceError` here, an end or a broken link there."""
    async with subject.make_pair() as (left, right):
        left.send([b"x" * 1000])
        left.abort()
        left.abort()
        _frames, end = await _receive_until_end(right)
        assert isinstance(end, anyio.EndOfStream | anyio.BrokenResourceError), f"the peer saw {end!r}"
        _frames, end = await _receive_until_end(left)
        assert isinstance(end, anyio.ClosedResourceError), f"after abort(), receive() raised {end!r}"
        _assert_refused(lambda: left.send([b"x"]), anyio.ClosedResourceError, "after abort()")
        await left.wait_closed()
        await right.wait_closed()


@_clause
async def _abort_drops_what_is_buffered(subject: Subject) -> None:
    """`abort` does not wait for a peer that receives nothing, and wakes who waits in `drained`."""
    size = min(subject.frame_bytes_max, 64 << 10)
    async with subject.make_pair() as (left, right), anyio.create_task_group() as tasks:
        ends: list[Exception] = []

        async def drain() -> None:
            try:
                await left.drained()
            except (anyio.ClosedResourceError, anyio.BrokenResourceError) as end:
                ends.append(end)
            else:
                raise AssertionError("drained() returned although the peer has received nothing")

        left.send([b"x" * size] * (_BACKPRESSURE_BYTES // size))
        tasks.start_soon(drain)
        await anyio.wait_all_tasks_blocked()
        left.abort()
        await left.wait_closed()
        while not ends:
            await checkpoint()
        frames, _end = await _receive_until_end(right)
        assert len(frames) < _BACKPRESSURE_BYTES // size, "abort() sent what it should have dropped"
    assert isinstance(ends[0], anyio.ClosedResourceError), f"drained() raised {ends[0]!r}"


@_clause
async def _frame_too_large(subject: Subject) -> None:
    """A frame over the receiver's limit is told with its size after those before it; it can still send."""
    if subject.make_uneven_pair is None:
        return
    limit = subject.frame_bytes_max
    async with subject.make_uneven_pair() as (left, right):
        left.send([b"one", "two", b"x" * (limit + 1)])
        frames, end = await _receive_until_end(right)
        _assert_same(frames, [b"one", "two"])
        assert isinstance(end, FrameTooLarge), f"the receiver saw {end!r} instead of FrameTooLarge"
        assert end.size == limit + 1, f"FrameTooLarge.size is {end.size}, sent were {limit + 1} bytes"
        assert end.limit == limit, f"FrameTooLarge.limit is {end.limit} instead of {limit}"
        right.send(["too large"])
        right.close()
        frames, end = await _receive_until_end(left)
        _assert_same(frames, ["too large"])
        assert isinstance(end, anyio.EndOfStream | anyio.BrokenResourceError), f"the sender saw {end!r}"


@_clause
async def _links_do_not_mix(subject: Subject) -> None:
    """Two links at once carry each its own frames."""
    async with subject.make_pair() as (a, b), subject.make_pair() as (c, d):
        for n in range(50):
            a.send([f"a{n}"])
            c.send([f"c{n}"])
        _assert_same(await _receive_count(b, 50), [f"a{n}" for n in range(50)])
        _assert_same(await _receive_count(d, 50), [f"c{n}" for n in range(50)])


async def _echo(link: Link) -> None:
    while True:
        frames = await link.receive()
        if b"fail" in frames:
            raise RuntimeError("a handler that fails, as the contract's test asks it to")
        link.send(frames)


@_clause
async def _listener_outlives_a_handler(subject: Subject) -> None:
    """Whatever a handler raises, its link ends and the others go on."""
    if subject.open_listener is None or subject.connect_to is None:
        return
    listener = await subject.open_listener()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, _echo)
        async with subject.connect_to(listener) as steady:
            async with subject.connect_to(listener) as failing:
                failing.send([b"fail"])
                frames, _end = await _receive_until_end(failing)
                _assert_same(frames, [])
            async with subject.connect_to(listener) as another:
                another.send([b"hello"])
                _assert_same(await another.receive(), [b"hello"])
            steady.send(["still here"])
            _assert_same(await steady.receive(), ["still here"])
        tasks.cancel_scope.cancel()


@_clause
async def _listener_closes(subject: Subject) -> None:
    """After `aclose`, nobody gets in, who is in stays, and `serve` returns when they have left."""
    if subject.open_listener is None or subject.connect_to is None:
        return
    listener = await subject.open_listener()
    served = anyio.Event()

    async def serve() -> None:
        await listener.serve(_echo)
        served.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        async with subject.connect_to(listener) as link:
            link.send([b"one"])
            await link.receive()
            await listener.aclose()
            await listener.aclose()
            try:
                async with subject.connect_to(listener) as late:
                    await late.receive()
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                pass
            link.send([b"two"])
            _assert_same(await link.receive(), [b"two"])
            assert not served.is_set(), "serve() returned while a handler was running"
        await served.wait()
    try:
        await listener.serve(_echo)
    except anyio.ClosedResourceError:
        pass
    else:
        raise AssertionError("serve() on a closed listener did not raise ClosedResourceError")


@_clause
async def _listener_is_cancelled(subject: Subject) -> None:
    """When `serve` is cancelled, handlers are cancelled, links end, and the address is free again."""
    if subject.open_listener is None or subject.connect_to is None:
        return
    listener = await subject.open_listener()
    started = anyio.Event()
    ended: list[str] = []

    async def handle(link: Link) -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(link.peer)

    async with anyio.create_task_group() as outer:
        inner = anyio.CancelScope()

        async def serve() -> None:
            with inner:
                await listener.serve(handle)
            ended.append("serve")

        outer.start_soon(serve)
        async with subject.connect_to(listener) as link:
            await started.wait()
            inner.cancel()
            _frames, end = await _receive_until_end(link)
            assert isinstance(end, anyio.EndOfStream | anyio.BrokenResourceError), f"the peer saw {end!r}"
    assert len(ended) == 2, f"the handler was not cancelled: {ended}"
    assert ended[-1] == "serve", "serve() returned before its handler had ended"
