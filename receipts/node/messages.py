"""Messages: taking them in exactly once, taking them back, clearing a conversation. PURE."""

from __future__ import annotations

from receipts.core import decide
from receipts.core.conversation import Conversation
from receipts.core.errors import Code, Refused
from receipts.core.events import MessageAccepted
from receipts.core.ids import ConversationId, Counts, MessageId, direct_members
from receipts.core.policy import DAY_MS, Limits, allowed
from receipts.storage import base as rows
from receipts.wire import commands
from receipts.wire.updates import Accepted

from . import queues
from .limits import take
from .queued import Recalled
from .world import App, Chat, Info, Install, Session, User, World

__all__ = [
    "ASKED_ENOUGH",
    "FOLD_EVERY",
    "clear",
    "fold",
    "new_install",
    "open_chat",
    "open_direct",
    "post",
    "recall",
    "send",
]

FOLD_EVERY = 256
"""Messages after which the authors' marks are written down. Loading folds in at most this many, about
0.5 ms; writing them costs a row per author."""


def send(world: World, session: Session, command: commands.SendMessage) -> None:
    """A repeat is answered as the first time, before any check of rights, limits or switches (scene 7)."""
    app, user = session.app, session.user
    install = session.install or _install(world, session)
    sent = _sent_before(world, install, command.number)
    if sent is not None:
        if sent.conversation != command.conversation:
            raise Refused(
                Code.CLIENT_ID_REUSED,
                f"number {command.number} was used for a message in {sent.conversation!r}; take a new one",
            )
        world.answer(session, _accepted(command.rid, sent))
        return
    conversation = command.conversation
    chat = app.chats.get(conversation) or world.find_chat(app, conversation)
    peers = None if chat is not None else _peers(world, session, conversation)
    _check_message(app.limits, command)
    if chat is not None and chat.pair is None:
        _check_group_send(world, session, chat, asks=command.asks)
    elif chat is not None and user.name not in chat.conversation.members:
        raise _stranger(conversation)  # as if it were not there: who speaks with whom is theirs
    elif command.asks:
        raise Refused(Code.INVALID, "only group messages ask for receipts; one-to-one has them always")
    take(user.buckets, "sends", app.limits, world.now_ms)
    if chat is None:
        assert peers is not None
        chat = open_direct(world, app, *peers)
    chat.used_ms = world.now_ms
    event = post(
        world,
        chat,
        user.name,
        session.device,
        command.body,
        command.counts,
        command.asks,
        install.key,
        command.number,
    )
    install.highest = max(install.highest, command.number)
    sent = rows.Sent(app.id, chat.id, event.seq, event.message_id, event.at_ms, command.number)
    install.remember(sent, world.tick_number, world.committed_tick)
    # What the install remembers must not be evicted before it is stored.
    user.touched_tick = world.tick_number
    world.answer(session, _accepted(command.rid, sent))
    world.tell(app, chat.pair or chat.members(), event, but=session)


def post(
    world: World,
    chat: Chat,
    author: str,
    device: str,
    body: str | bytes,
    counts: Counts,
    asks: bool,
    install_key: int = 0,
    number: int = 0,
) -> MessageAccepted:
    """Give a message its place. Rights and limits have been judged."""
    conversation = chat.conversation
    message_id = MessageId(world.message_id + 2)  # even: odd ids are derived from them for receipts
    now_ms = world.now_ms
    event = decide.accept(
        conversation,
        author,
        message_id=message_id,
        at_ms=now_ms,
        device=device,
        body=body,
        counts=counts,
        asks=asks,
    )
    world.message_id = message_id
    conversation.apply(event)
    seq = event.seq
    chat.unfolded.add(author)
    chat.remember(seq, Info(author, message_id, now_ms, asks, world.tick_number))
    world.new.messages.append(
        rows.MessageRow(
            chat.key,
            seq,
            message_id,
            world.tick_number,
            author,
            device,
            now_ms,
            int(counts),
            asks,
            int(event.shares),
            install_key,
            number,
            body,
            0,
            "",
            0,
        )
    )
    if asks:
        expires_ms = now_ms + chat.app.limits.group_receipts_kept_ms
        chat.asked_ms.append(now_ms)
        if world.next_receipts_ms is None or expires_ms < world.next_receipts_ms:
            world.next_receipts_ms = expires_ms
        row = rows.AskRow(chat.key, seq, chat.app.id, author, expires_ms, world.tick_number)
        world.touch_ask(chat, row)
    if seq - chat.folded_through >= FOLD_EVERY:
        fold(world, chat)
    world.touch(chat)
    return event


def fold(world: World, chat: Chat) -> None:
    """Write down the authors' marks of the messages since the last time."""
    for author in sorted(chat.unfolded):
        world.touch_marks(chat, author, False)
        chat.mark_heads[author] = chat.conversation.head
    chat.unfolded.clear()
    chat.folded_through = chat.conversation.head
    world.touch_row(chat)


def recall(world: World, session: Session, command: commands.RecallMessage) -> None:
    """By its author within the window, or by who may recall others' messages."""
    chat = world.chat(session, command.conversation)
    if command.seq in chat.conversation.recalled:
        world.done(session, command.rid)
        return
    info = world.info(chat, command.seq)
    if not session.app.features.recall:
        raise Refused(Code.FEATURE_OFF, "recalling messages is switched off")
    event = decide.recall(chat.conversation, command.seq, session.user.name, at_ms=world.now_ms)
    if event is None or info is None:
        raise Refused(Code.UNKNOWN_MESSAGE, f"there is no #{command.seq} in {chat.id!r}")
    _check_recall(world, session, chat, info)
    take(session.user.buckets, "changes", session.app.limits, world.now_ms)
    chat.conversation.apply(event)
    world.new.recalls.append((chat.key, command.seq, world.tick_number, session.user.name, world.now_ms))
    world.touch(chat)
    world.done(session, command.rid)
    members = chat.conversation.members.items()
    concerned = [name for name, member in members if member.joined or member.in_audience(command.seq)]
    world.tell(session.app, concerned, event, but=session)
    taken = Recalled(chat.id, command.seq, info.message_id, session.user.name, world.now_ms)
    queues.tell_recalled(world, chat, concerned, taken, session)


def clear(world: World, session: Session, command: commands.ClearConversation) -> None:
    """The user's own view alone."""
    chat = world.chat(session, command.conversation)
    take(session.user.buckets, "changes", session.app.limits, world.now_ms)
    event = decide.clear(chat.conversation, session.user.name, command.through)
    if event is not None:
        chat.conversation.apply(event)
        world.touch_member(chat, session.user.name, False)
        world.tell(session.app, (session.user.name,), event, but=session)
    world.done(session, command.rid)


# -- judging


def _install(world: World, session: Session) -> Install:
    """The session's outbox; after a roll-back it is looked up again."""
    install = session.install or world.install(session.user, session.install_name)
    if install is None:
        install = new_install(world, session.user, session.install_name)
    session.install = install
    return install


def new_install(world: World, user: User, name: str) -> Install:
    """A client's outbox that was not known."""
    install = user.installs[name] = Install(world.next_key(), 0)
    world.new.installs.append(rows.InstallRow(install.key, user.app.id, user.name, name))
    world.touched_users.add(user)
    user.touched_tick = world.tick_number
    world.tick.writes = True
    return install


def _sent_before(world: World, install: Install, number: int) -> rows.Sent | None:
    sent = install.recent.get(number)
    if sent is None and 0 < number <= install.highest:
        sent = world.ask("sent", install.key, number)
    return sent


def _accepted(rid: int, sent: rows.Sent) -> Accepted:
    return Accepted(rid, sent.conversation, sent.seq, MessageId(sent.message_id), sent.at_ms, sent.number)


def _stranger(conversation: ConversationId) -> Refused:
    return Refused(Code.UNKNOWN_CONVERSATION, f"there is no conversation {conversation!r} with you in it")


def _peers(world: World, session: Session, conversation: ConversationId) -> tuple[User, User]:
    """The two users whose conversation begins with a first message."""
    pair = direct_members(conversation)
    if pair is None or session.user.name not in pair:
        raise _stranger(conversation)
    return world.account(session.app, pair[0]), world.account(session.app, pair[1])


def _check_message(limits: Limits, command: commands.SendMessage) -> None:
    """What is wrong with it wherever it goes. A refused first message opens no conversation."""
    if command.number < 1:
        raise Refused(Code.INVALID, "numbers of sends begin at 1")
    if command.counts is Counts.SYSTEM:
        raise Refused(Code.NOT_PERMITTED, "system messages are the node's")
    body, limit = command.body, limits.body_bytes_max
    size = len(body) if isinstance(body, bytes) or body.isascii() else len(body.encode())
    if size > limit:
        raise Refused(Code.INVALID, f"the body has {size} bytes, {limit} are allowed", limit=limit)


def open_direct(world: World, app: App, one: User, other: User) -> Chat:
    """The conversation of two users begins; each brings the sharing that they chose for all."""
    chat = open_chat(world, app, Conversation.between(one.name, other.name))
    for user in (one, other):
        row = user.row
        assert row is not None  # accounts were looked up
        event = decide.share(
            chat.conversation,
            user.name,
            version=world.next_version(),
            delivered=row.share_delivered,
            read=row.share_read,
        )
        if event is not None:
            chat.conversation.apply(event)
            world.tell(app, (user.name,), event)
        world.touch_member(chat, user.name, True)
    return chat


def open_chat(world: World, app: App, conversation: Conversation) -> Chat:
    """A conversation that was not there before."""
    chat = app.chats[conversation.id] = Chat(app, world.next_key(), conversation)
    chat.used_ms = world.now_ms
    world.touch_row(chat)
    return chat


def _check_group_send(world: World, session: Session, chat: Chat, *, asks: bool) -> None:
    app, name = session.app, session.user.name
    conversation = chat.conversation
    member = conversation.members.get(name)
    if member is None and not session.queued:  # those are told, see `queue_calls`
        raise _stranger(chat.id)
    if member is None or not member.joined or chat.dissolved:
        raise Refused(Code.NOT_A_MEMBER, f"you are no longer in {chat.id!r}")
    policy = app.features.groups
    role = chat.role(name)
    if not allowed(role, policy.may_send):
        raise Refused(Code.NOT_PERMITTED, f"writing here takes the role {policy.may_send.value}")
    if not asks:
        return
    if not app.features.group_receipts:
        raise Refused(Code.FEATURE_OFF, "group receipts are switched off for this app")
    if not allowed(role, policy.may_ask_receipts):
        least = policy.may_ask_receipts.value
        raise Refused(
            Code.NOT_PERMITTED, f"asking for receipts takes the role {least}; yours is {role.value}"
        )
    limit = app.limits.group_receipts_members_max
    members = len(chat.members())
    if members > limit:
        raise Refused(
            Code.GROUP_TOO_LARGE, f"the group has {members} members; receipts go up to {limit}", limit=limit
        )
    _check_asks_of_day(world, chat, app.limits.asking_messages_per_day)


ASKED_ENOUGH = "messages of this group asked for receipts within a day"
"""Tells this from the other refusals of the same code."""


def _check_asks_of_day(world: World, chat: Chat, limit: int) -> None:
    asked_ms = chat.asked_ms
    while asked_ms and asked_ms[0] <= world.now_ms - DAY_MS:
        asked_ms.popleft()
    if len(asked_ms) >= limit:
        wait_ms = asked_ms[0] + DAY_MS - world.now_ms
        raise Refused(
            Code.RATE_LIMITED,
            f"{limit} {ASKED_ENOUGH}",
            retry_after_ms=wait_ms,
            limit=limit,
        )


def _check_recall(world: World, session: Session, chat: Chat, info: Info) -> None:
    name, app = session.user.name, session.app
    if not chat.conversation.members[name].joined:
        raise Refused(Code.NOT_A_MEMBER, f"you are no longer in {chat.id!r}")
    if chat.pair is None and allowed(chat.role(name), app.features.groups.may_recall_others):
        return
    if info.author != name:
        raise Refused(Code.NOT_PERMITTED, "this message is not yours to recall")
    window_ms = app.limits.recall_window_ms
    if world.now_ms - info.at_ms > window_ms:
        raise Refused(
            Code.EXPIRED,
            f"a message can be recalled for {window_ms // 1000} s after it was sent",
            limit=window_ms,
        )
