"""Somebody who speaks the protocol without a client of ours, and says what no client of ours would.

A rogue logs in as a user and then sends any command at all: receipts for messages that are not there, for
own ones, from outside a conversation; numbers of sends that were used for something else. It reads nothing of
what it is told. The node has to take all of it as what it is, and nobody else may come to harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receipts.core.ids import Counts
from receipts.core.ranges import ranges_of
from receipts.wire import VERSION, commands
from receipts.wire.codec import Frame, encode_command

from .link import Link
from .node import NodeProcess

__all__ = ["DEVICE", "ROGUES", "Rogue"]

DEVICE = "rogue"


class Rogue:
    """The rogue of one user.

    Args:
        app, user: Whose account it uses.
    """

    def __init__(self, app: str, user: str) -> None:
        self.app = app
        self.user = user
        self.link: Link | None = None
        self._rid = 0

    def say(self, node: NodeProcess, token: str | None, operation: str, arguments: tuple[Any, ...]) -> bool:
        """Send one command, after logging in when there is no link.

        Returns:
            Whether anything was sent: nothing is without a token, nor on a link that the node is ending.
        """
        if self.link is not None and self.link.node_gone:
            self.leave(node)
            return False
        frames: list[Frame] = []
        if self.link is None:
            if token is None:
                return False
            self.link = Link(0, f"{self.user}/{DEVICE}")
            node.accept(self.link)
            frames.append(self._frame(self._hello(token)))
        self._rid += 1
        frames.append(self._frame(ROGUES[operation](self._rid, *arguments)))
        self.link.down.clear()
        node.take(self.link.session, frames)
        return True

    def _hello(self, token: str) -> commands.Hello:
        return commands.Hello(
            rid=0,
            version=VERSION,
            user=self.user,
            device=DEVICE,
            install=f"{self.user}:{DEVICE}",
            app=self.app,
            token=token,
            resume=f"{self.app}:{self._rid}:9.9.9",
        )

    @staticmethod
    def _frame(command: commands.Command) -> Frame:
        return encode_command(command)

    def leave(self, node: NodeProcess | None) -> None:
        """The link ends, if there is one."""
        if self.link is not None and node is not None:
            node.lose(self.link.session)
        self.link = None


ROGUES: dict[str, Callable[..., commands.Command]] = {
    "read": lambda rid, chat, seq, known: commands.ReadConversation(rid, chat, seq, True, known),
    "name": lambda rid, chat, seqs, content: commands.ReadMessages(rid, chat, ranges_of(seqs), content),
    "ack": lambda rid, chat, seqs: commands.AckDelivered(rid, chat, ranges_of(seqs)),
    "send": lambda rid, chat, number, asks: commands.SendMessage(
        rid, chat, f"number {number}", number, Counts.YES, asks
    ),
    "mark": lambda rid, chat, seq: commands.MarkUnread(rid=rid, conversation=chat, from_seq=seq),
    "recall": lambda rid, chat, seq: commands.RecallMessage(rid=rid, conversation=chat, seq=seq),
    "clear": lambda rid, chat, seq: commands.ClearConversation(rid=rid, conversation=chat, through=seq),
    "status": lambda rid, chat, seqs: commands.GetStatus(rid=rid, conversation=chat, seqs=seqs),
    "readers": lambda rid, chat, seq: commands.ListReaders(rid=rid, conversation=chat, seq=seq),
    "history": lambda rid, chat, seq: commands.FetchHistory(rid=rid, conversation=chat, before=seq),
    "page": lambda rid, token: commands.AckPage(rid=rid, token=token),
    "statistics": lambda rid, tick: commands.AckStatistics(rid=rid, through=tick),
    "ping": lambda rid: commands.Ping(rid=rid),
}
"""Operation of a `Say` step → its command."""
