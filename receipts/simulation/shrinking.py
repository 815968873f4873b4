"""From a long trace that breaks an invariant to a short one that breaks the same.

Delta debugging (Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input") over the
steps, after coarse cuts that a world suggests: everything after the failure, all steps of one device, all of
one kind. Any part of a trace is a trace, so nothing has to be repaired in between. The cast shrinks last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attrs import evolve

from .cast import AppCast, Cast
from .run import Outcome, replay
from .steps import Act, Deliver, Late, Step, Turn, Wait

__all__ = ["shrink"]

SELDOM = 1 << 30
WIDE = 99


def shrink(
    cast: Cast,
    steps: list[Step],
    invariant: str,
    *,
    go_on: Callable[[], bool] = lambda: True,
    tried: Callable[[int], None] | None = None,
) -> Outcome:
    """Find a shorter trace that breaks the same invariant.

    Args:
        cast: With whom the trace was made.
        steps: The trace, as in `Outcome.steps`.
        invariant: Of its violation.
        go_on: Asked before every attempt; when it says no, the shortest trace up to then is the answer.
        tried: Called after every attempt with the number of steps of the shortest trace up to then.

    Returns:
        The outcome of the shortest trace that was found.

    Raises:
        ValueError: The trace does not break the invariant.
    """
    search = _Search(invariant, go_on, tried)
    search.begin(cast, steps)
    try:
        search.coarse()
        search.widen()
        search.fine()
        search.simplify()
        search.people()
        search.fewer_messages()
        search.fine()
    except _Enough:
        pass
    return search.best


class _Enough(Exception):
    """Whoever waits has waited enough."""


class _Search:
    """The shortest failing trace up to now, and ways to a shorter one."""

    def __init__(
        self, invariant: str, go_on: Callable[[], bool], tried: Callable[[int], None] | None
    ) -> None:
        self._invariant = invariant
        self._go_on = go_on
        self._tried = tried
        self._check_every = SELDOM
        self._heal = True
        self.best: Outcome = None  # type: ignore[assignment]  # `begin` comes first

    def begin(self, cast: Cast, steps: list[Step]) -> None:
        """Find the cheapest way to see the failure: judging everything after every step is the dearest."""
        for check_every in (SELDOM, 1000, 50, 1):
            self._check_every = check_every
            outcome = self._run(cast, steps)
            if self._fails(outcome):
                self._keep(outcome)
                return
        raise ValueError(f"these steps do not break {self._invariant}")

    def _run(self, cast: Cast, steps: list[Step]) -> Outcome:
        return replay(cast, steps, heal=self._heal, check_every=self._check_every)

    def _fails(self, outcome: Outcome) -> bool:
        return outcome.violation is not None and outcome.violation.invariant == self._invariant

    def _keep(self, outcome: Outcome) -> None:
        self.best = outcome
        violation = outcome.violation
        assert violation is not None
        if violation.step < len(outcome.steps):
            self._heal = False  # it fails before, and a trace that fails only while healing is another one

    def _try(self, cast: Cast, steps: list[Step]) -> bool:
        """Whether these fail as well; then they are the best."""
        if not self._go_on():
            raise _Enough
        outcome = self._run(cast, steps)
        found = self._fails(outcome)
        if found:
            self._keep(outcome)
        if self._tried is not None:
            self._tried(len(self.best.steps))
        return found

    def _try_without(self, unwanted: Callable[[Step], bool]) -> bool:
        steps = self.best.steps
        left = [step for step in steps if not unwanted(step)]
        return len(left) < len(steps) and self._try(self.best.cast, left)

    # -- steps

    def coarse(self) -> None:
        """Whole devices, whole kinds of steps."""
        for of in (_device_of, _kind_of, _operation_of):
            for name in sorted({of(step) for step in self.best.steps} - {""}):
                self._try_without(partial(_is, of, name))

    def fine(self) -> None:
        """Pieces of the trace, from large to single steps, until no single one can go."""
        size = max(len(self.best.steps) // 2, 1)
        while True:
            removed = self._pieces(size)
            if size > 1:
                size = max(size // 2, 1)
            elif not removed:
                return

    def _pieces(self, size: int) -> bool:
        """Take out pieces of a size, from the end: what is late depends on what is early."""
        removed = False
        stop = len(self.best.steps)
        while stop > 0:
            steps = self.best.steps
            stop = min(stop, len(steps))
            start = max(stop - size, 0)
            if stop and self._try(self.best.cast, steps[:start] + steps[stop:]):
                removed = True
            stop = start
        return removed

    def widen(self) -> None:
        """All that is on its way at once, so that fewer steps deliver it."""
        steps = self.best.steps
        wide = [step._replace(frames=WIDE) if isinstance(step, Deliver | Late) else step for step in steps]
        if wide != steps:
            self._try(self.best.cast, wide)

    def fewer_messages(self) -> None:
        """A message less, and all that comes after it one lower: no step can go alone while others name
        messages by number."""
        index = len(self.best.steps) - 1
        while index >= 0:
            steps = self.best.steps
            step = steps[index] if index < len(steps) else None
            if isinstance(step, Act) and step.operation == "send":
                later = [_lowered(other, step.arguments[0]) for other in steps[index + 1 :]]
                if later != steps[index + 1 :]:
                    self._try(self.best.cast, [*steps[:index], *later])
            index -= 1

    def simplify(self) -> None:
        """Steps that say less: one turn in place of a node's inner steps, all frames at once."""
        for index in range(len(self.best.steps) - 1, -1, -1):
            steps = self.best.steps
            if index < len(steps):
                for plainer in _plainer(steps[index]):
                    if self._try(self.best.cast, [*steps[:index], plainer, *steps[index + 1 :]]):
                        break

    # -- people

    def people(self) -> None:
        """Who has nothing to do with it, and habits that do not matter."""
        for smaller in (_fewer_devices, _fewer_groups, _fewer_users, _plain_apps, _plain_devices):
            again = True
            while again:
                again = any(self._try(cast, self.best.steps) for cast in smaller(self.best.cast))


def _device_of(step: Step) -> str:
    return str(getattr(step, "device", ""))


def _kind_of(step: Step) -> str:
    return type(step).__name__


def _operation_of(step: Step) -> str:
    return str(getattr(step, "operation", ""))


def _is(of: Callable[[Step], str], name: str, step: Step) -> bool:
    return of(step) == name


def _lowered(step: Step, chat: str) -> Step:
    """The step, its seqs one lower if it names messages of a conversation."""
    if not isinstance(step, Act) or step.operation not in _NAMES_SEQS or step.arguments[0] != chat:
        return step
    named = step.arguments[1]
    if isinstance(named, tuple):
        named = tuple(dict.fromkeys(max(seq - 1, 1) for seq in named))
    elif named:
        named = max(named - 1, 1)
    return step._replace(arguments=(chat, named, *step.arguments[2:]))


_NAMES_SEQS = frozenset({"read", "name", "mark", "recall", "clear", "history", "readers", "status"})


def _plainer(step: Step) -> Iterator[Step]:
    if _kind_of(step) in ("Tick", "Store", "Release", "Password"):
        yield Turn()
    elif isinstance(step, Deliver | Late) and step.frames > 1:
        yield step._replace(frames=1)
    elif isinstance(step, Wait) and step.ms > 100:
        for ms in (100, 1000, 10_000, 100_000):
            if ms < step.ms:
                yield Wait(ms)


def _without(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for index in range(len(items) - 1, -1, -1):
        yield items[:index] + items[index + 1 :]


def _with(item: Any, **changes: Any) -> Any:
    """A value with some fields changed; itself when nothing is."""
    if all(getattr(item, name) == content for name, content in changes.items()):
        return item
    return evolve(item, **changes)


def _fewer_devices(cast: Cast) -> Iterator[Cast]:
    for devices in _without(cast.devices):
        yield _with(cast, devices=devices)


def _fewer_groups(cast: Cast) -> Iterator[Cast]:
    for groups in _without(cast.groups):
        yield _with(cast, groups=groups)


def _fewer_users(cast: Cast) -> Iterator[Cast]:
    for user in reversed(cast.users):
        used = any((one.app, one.user) == (user.app, user.user) for one in cast.devices)
        if used:
            continue
        groups = tuple(
            _with(
                group,
                admins=tuple(name for name in group.admins if name != user.user),
                members=tuple(name for name in group.members if name != user.user),
            )
            for group in cast.groups
            if (group.app, group.owner) != (user.app, user.user)
        )
        yield _with(cast, users=tuple(one for one in cast.users if one is not user), groups=groups)


def _plain_apps(cast: Cast) -> Iterator[Cast]:
    for index, app in enumerate(cast.apps):
        settings = json.loads(app.settings)
        for part, entries in settings.items():
            for name in entries:
                fewer = {key: content for key, content in entries.items() if key != name}
                text = json.dumps({**settings, part: fewer})
                apps = (*cast.apps[:index], AppCast(app=app.app, settings=text), *cast.apps[index + 1 :])
                yield _with(cast, apps=apps)


_PLAIN: dict[str, Any] = {
    "offset_ms": 0,
    "coalesce_ms": 0,
    "storage": False,
    "text": False,
    "password": False,
    "share_delivered": True,
    "share_read": True,
    "delivery": True,
    "messages_max": 1000,
}
"""Habits that nobody has to think about."""


def _plain_devices(cast: Cast) -> Iterator[Cast]:
    if cast.node_offset_ms:
        yield _with(cast, node_offset_ms=0)
    for index, device in enumerate(cast.devices):
        for name, content in _PLAIN.items():
            if getattr(device, name) != content:
                plain = _with(device, **{name: content})
                yield _with(cast, devices=(*cast.devices[:index], plain, *cast.devices[index + 1 :]))
