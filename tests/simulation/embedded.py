"""An application for the tests: `receipts.Conversation` embedded, and nothing around it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from receipts.core import decide
from receipts.core.conversation import Conversation
from receipts.core.events import Event
from receipts.core.explain import explain
from receipts.core.ids import ConversationId, DeviceId, MessageId, Seq, UserId
from receipts.core.ranges import ranges_of, through
from receipts.core.status import Status
from receipts.simulation.application import Application

__all__ = ["Embedded"]


class Embedded(Application):
    """One process for everybody: what one device does, all the others see at once."""

    def __init__(self) -> None:
        self.chats: dict[ConversationId, Conversation] = {}
        self.history: list[Event] = []
        self.authors: dict[tuple[ConversationId, Seq], UserId] = {}
        self.sharing: dict[UserId, tuple[bool, bool]] = {}
        self.version = 0

    def begin(
        self,
        users: Sequence[UserId],
        devices: Sequence[DeviceId],
        groups: Mapping[ConversationId, Sequence[UserId]],
    ) -> None:
        for group, members in groups.items():
            self.chats[group] = Conversation.group(group)
            for user in members:
                self.join(group, user)

    def chat(self, conversation: ConversationId) -> Conversation:
        if conversation not in self.chats:
            self.chats[conversation] = chat = Conversation.named(conversation)
            for user in chat.members:
                self._share(chat, user, *self.sharing.get(user, (True, True)))
        return self.chats[conversation]

    def now(self) -> int:
        self.version += 1
        return self.version

    def apply(self, chat: Conversation, event: Event | None) -> None:
        if event is not None:
            chat.apply(event)
            self.history.append(event)

    # -- deeds

    def send(self, user: UserId, device: DeviceId, conversation: ConversationId, asks: bool) -> Seq:
        chat = self.chat(conversation)
        message_id = MessageId(2 * self.now())
        event = decide.accept(chat, user, message_id=message_id, device=device, asks=asks)
        self.apply(chat, event)
        self.authors[conversation, event.seq] = user
        return event.seq

    def read(self, user: UserId, device: DeviceId, conversation: ConversationId, through_seq: Seq) -> None:
        self._read(user, device, conversation, through(through_seq))

    def _read(
        self, user: UserId, device: DeviceId, conversation: ConversationId, ranges: tuple[int, ...]
    ) -> None:
        chat, now = self.chat(conversation), self.now()
        event = decide.read(chat, user, ranges, device=device, version=now, at_ms=now, delivers=True)
        self.apply(chat, event)
        self.apply(chat, decide.unmark(chat, user, ranges, known=now, version=now))

    def read_messages(
        self,
        user: UserId,
        device: DeviceId,
        conversation: ConversationId,
        seqs: Sequence[Seq],
        content: str | None,
    ) -> None:
        chat = self.chat(conversation)
        self._read(user, device, conversation, ranges_of(seqs))
        for seq in seqs:
            asked = chat.asked.get(seq)
            if asked is not None and user in chat.audience(seq):
                now = self.now()
                self.apply(chat, decide.answer(chat, user, seq, content or "", at_ms=now, version=now))

    def deliver(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seqs: Sequence[Seq]
    ) -> None:
        chat = self.chat(conversation)
        self.apply(chat, decide.deliver(chat, user, device, ranges_of(seqs)))

    def mark_unread(
        self, user: UserId, device: DeviceId, conversation: ConversationId, from_seq: Seq | None
    ) -> None:
        chat = self.chat(conversation)
        own = ranges_of(
            seq for (where, seq), author in self.authors.items() if (where, author) == (conversation, user)
        )
        self.apply(chat, decide.mark_unread(chat, user, version=self.now(), from_seq=from_seq, own=own))

    def recall(self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq) -> None:
        chat = self.chat(conversation)
        self.apply(chat, decide.recall(chat, seq, user))

    def clear(self, user: UserId, device: DeviceId, conversation: ConversationId, through: Seq) -> None:
        chat = self.chat(conversation)
        self.apply(chat, decide.clear(chat, user, through))

    def share(self, user: UserId, device: DeviceId, delivered: bool | None, read: bool | None) -> None:
        before = self.sharing.get(user, (True, True))
        self.sharing[user] = (
            before[0] if delivered is None else delivered,
            before[1] if read is None else read,
        )
        for chat in self.chats.values():
            if user in chat.members:
                self._share(chat, user, delivered, read)

    def _share(self, chat: Conversation, user: UserId, delivered: bool | None, read: bool | None) -> None:
        self.apply(chat, decide.share(chat, user, version=self.now(), delivered=delivered, read=read))

    def join(self, conversation: ConversationId, user: UserId) -> None:
        chat = self.chat(conversation)
        self.apply(chat, decide.join(chat, user, version=self.now()))

    def leave(self, conversation: ConversationId, user: UserId) -> None:
        chat = self.chat(conversation)
        self.apply(chat, decide.leave(chat, user))

    def restart(self) -> None:
        self.chats = {}
        for event in self.history:
            if event.conversation not in self.chats:
                self.chats[event.conversation] = Conversation.named(event.conversation)
            self.chats[event.conversation].apply(event)

    # -- answers

    def unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> int:
        return self.chat(conversation).unread(user)

    def unread_seqs(self, user: UserId, device: DeviceId, conversation: ConversationId) -> Collection[Seq]:
        return explain(self.chat(conversation), user).seqs

    def marked_unread(self, user: UserId, device: DeviceId, conversation: ConversationId) -> bool:
        return self.chat(conversation).marked_unread(user)

    def status(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq, member: UserId
    ) -> Status:
        return self.chat(conversation).status(seq, member)

    def readers(
        self, user: UserId, device: DeviceId, conversation: ConversationId, seq: Seq
    ) -> Mapping[UserId, str]:
        asked = self.chat(conversation).asked[seq]
        return {reader: answer.content for reader, answer in asked.readers.items()}
