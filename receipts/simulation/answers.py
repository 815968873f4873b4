"""Whether what storage answers is what is on disk: history, lists, badges, catch-up pages, summaries.

The oracle stands as of what is committed while this is judged (`Oracle.on_disk`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receipts.node.world import Ask
from receipts.wire import updates

from .facts import Login, Talk, bits, seqs_of_bits, up_to
from .judge import ANY_SEQ, message_agrees, ranges_agree, shown
from .oracle import Expected, Oracle
from .violation import Violation

__all__ = ["agrees", "blame", "compare"]


def agrees(ask: Ask, expected: Expected) -> bool:
    """Whether a question is the one that has to be asked, with what memory knew when it was asked."""
    if ask.purpose != "explained":
        return True
    rid, talk, unread, marked, seqs, more = expected.content[1]
    asked, where, page, flagged = ask.context
    said = (asked, where, page.unread, flagged, list(page.seqs), page.more)
    return bool(said == (rid, talk.id, unread, marked, seqs, more))


def blame(ask: Ask, missing: list[Expected]) -> str:
    """Whose failure it is that this was asked."""
    if ask.purpose == "explained":
        twin = next((one for one in missing if one.kind == "Ask" and one.content[0] == "explained"), None)
        if twin is not None:
            *_, seqs, more = twin.content[1]
            page = ask.context[2]
            return "I-22" if list(page.seqs) == seqs and page.more != more else "I-12"
    return "I-29"


def compare(oracle: Oracle, login: Login, expected: Expected, said: list[Any]) -> None:
    """Judge the answer to a question.

    Args:
        expected: Of the question: its purpose, and what it was about.
        said: The answer: one update, for `statistics` any number.
    """
    purpose, about = expected.content
    judge = _JUDGES.get(purpose)
    if judge is None:
        return
    if purpose != "statistics" and len(said) != 1:
        raise Violation("I-29", f"a question for {purpose} has {len(said)} answers", repr(said))
    judge(oracle, login, about, said)


def _history(oracle: Oracle, login: Login, about: Any, said: list[updates.History]) -> None:
    _, talk, readable, limit = about
    (answer,) = said
    there = list(seqs_of_bits(readable & up_to(talk.head) & ~up_to(talk.expired)))
    recalled = bits(answer.recalled, ANY_SEQ)
    given = sorted([one.seq for one in answer.messages] + list(seqs_of_bits(recalled)))
    most = there[-limit:]
    if given != most[len(most) - len(given) :] or (there and not given):
        raise Violation("I-22", f"history of {talk.id} has a hole", f"there is {there}, given {given}")
    if answer.more is not (len(there) > len(given)):
        raise Violation("I-22", f"history of {talk.id} says more: {answer.more}", f"{there} / {given}")
    if recalled & ~talk.recalled or any(talk.recalled >> one.seq & 1 for one in answer.messages):
        raise Violation("I-9", f"history of {talk.id} and what is recalled", shown(talk.recalled))
    for message in answer.messages:
        if not message_agrees(talk, talk.facts[message.seq - 1], message):
            raise Violation("I-8", f"history of {talk.id} has another #{message.seq}", repr(message))


def _conversations(oracle: Oracle, login: Login, about: Any, said: list[updates.Conversations]) -> None:
    _, cursor, _ = about
    (answer,) = said
    account = login.account
    talks = {
        talk.id: talk
        for talk in oracle.talks_of(account.app, account.user)
        if talk.people[account.user].joined
    }
    for line in answer.items:
        talk = talks.get(line.conversation)
        if talk is None:
            raise Violation("I-27", f"{line.conversation} is listed for {account.user}", repr(line))
        _summary(talk, account.user, line)
    if not cursor and not answer.cursor and len(answer.items) != len(talks):
        listed = [line.conversation for line in answer.items]
        raise Violation("I-22", "conversations are missing in a list", f"{sorted(talks)} / {listed}")


def _summary(talk: Talk, user: str, line: updates.Summary) -> None:
    person = talk.people[user]
    meant = (talk.head, talk.unread(person).bit_count(), talk.marked(person), person.muted, talk.name)
    found = (line.head, line.unread, line.marked_unread, line.muted, line.name)
    if found != meant:
        invariant = "I-20" if found[:3] == meant[:3] else "I-14"
        if line.unread > meant[1] and talk.visible(person) & person.wrote & ~talk.uncounted & ~talk.recalled:
            invariant = "I-1" if line.unread - meant[1] <= person.wrote.bit_count() else invariant
        raise Violation(invariant, f"{talk.id} as listed for {user}", f"{meant} / {found}")
    kept = up_to(talk.head) & ~talk.gone()
    newest = kept.bit_length() - 1 if kept else 0
    if line.last is not None and line.last.seq != newest:
        raise Violation("I-8", f"the last message of {talk.id}", f"#{newest} / {line.last!r}")


def _badge(oracle: Oracle, login: Login, about: Any, said: list[updates.Badge]) -> None:
    (answer,) = said
    meant = badge_of(oracle, login.account.app, login.account.user)
    found = (
        answer.messages,
        answer.conversations,
        answer.muted_messages,
        answer.muted_conversations,
    )
    if found != meant:
        sums = (found[0] + found[2], found[1] + found[3]) == (meant[0] + meant[2], meant[1] + meant[3])
        invariant = "I-20" if sums else "I-14"
        raise Violation(invariant, f"the badge of {login.account.user}", f"{meant} / {found}")


def badge_of(oracle: Oracle, app: str, user: str) -> tuple[int, int, int, int]:
    """(messages, conversations, and both of muted ones)."""
    counts = [0, 0, 0, 0]
    for talk in oracle.talks_of(app, user):
        person = talk.people[user]
        if person.joined:
            unread = talk.unread(person).bit_count()
            apart = 2 if person.muted else 0
            counts[apart] += unread
            counts[apart + 1] += 1 if unread or talk.marked(person) else 0
    return counts[0], counts[1], counts[2], counts[3]


def _explained(oracle: Oracle, login: Login, about: Any, said: list[updates.Explained]) -> None:
    _, talk, unread, marked, seqs, more = about
    (answer,) = said
    if (answer.unread, answer.marked_unread, answer.more) != (unread, marked, more):
        raise Violation("I-12", f"explained: {talk.id}", f"{about} / {answer}")
    there = [seq for seq in seqs if talk.expired < seq <= talk.head]
    if [seq for seq, _ in answer.messages] != there:
        raise Violation("I-12", f"a count of {talk.id} has nothing to open", f"{there} / {answer}")
    for seq, message_id in answer.messages:
        if talk.facts[seq - 1].message_id not in (0, message_id):
            raise Violation("I-8", f"the id of #{seq} of {talk.id}", repr(answer))


def _statistics(oracle: Oracle, login: Login, about: Any, said: list[updates.ReadStatistics]) -> None:
    account = login.account
    told = {(name, seq): count for update in said for name, seq, count in update.counts}
    for (name, seq), count in told.items():
        talk = oracle.talks.get((account.app, name))
        if talk is None or seq not in talk.asked or talk.facts[seq - 1].author != account.user:
            raise Violation("I-27", f"a summary of {account.user} has #{seq} of {name}", repr(said))
        if count != len(talk.asked[seq]):
            raise Violation("I-19", f"answers to #{seq} of {name}", f"{len(talk.asked[seq])} / {count}")
    for name, seq in account.untold:
        if (name, seq) not in told and seq in oracle.talks[account.app, name].asked:
            raise Violation(
                "I-24", f"{account.user} is never told that #{seq} of {name} was answered", repr(said)
            )


def _page(oracle: Oracle, login: Login, about: Any, said: list[updates.CatchUp]) -> None:
    (page,) = said
    login.page, login.coming = page.token, False
    login.live = login.live or page.live
    for part in page.parts:
        talk = oracle.talks.get((login.account.app, part.conversation))
        if talk is None or login.account.user not in talk.people:
            raise Violation("I-27", f"{login.account.user} is given {part.conversation}", repr(part))
        _part(talk, login, part)


def _part(talk: Talk, login: Login, part: updates.ConversationPart) -> None:
    """What is caught up on is there, and is the user's to know."""
    me = talk.people[login.account.user]
    readable = me.may_open(talk.head, talk.expired)
    for message in part.messages:
        seq = message.seq
        if not readable >> seq & 1:
            raise Violation("I-27", f"{me.user} is given #{seq} of {talk.id}", repr(message))
        if talk.recalled >> seq & 1:
            raise Violation("I-9", f"{me.user} is given #{seq} of {talk.id}, which is recalled")
        if not message_agrees(talk, talk.facts[seq - 1], message):
            raise Violation("I-8", f"{me.user} is given another #{seq} of {talk.id}", repr(message))
    if part.head > talk.head:
        raise Violation("I-6", f"{me.user} is given head {part.head} of {talk.id}", f"it is {talk.head}")
    for member in part.members:
        _member(talk, login, member)
    for asked in part.asked:
        mine = talk.facts[asked.seq - 1].author == me.user
        for reader in asked.readers:
            if not mine and reader.user != me.user:
                raise Violation("I-25", f"{me.user} is told who answered #{asked.seq}", repr(asked))
            known = talk.asked.get(asked.seq, {}).get(reader.user)
            if known != (reader.at_ms, reader.content):
                raise Violation("I-23", f"an answer to #{asked.seq} of {talk.id}", f"{known} / {reader}")


def _member(talk: Talk, login: Login, part: updates.MemberPart) -> None:
    me, person = login.account.user, talk.people.get(part.user)
    if person is None:
        raise Violation("I-27", f"{part.user} was never in {talk.id}", repr(part))
    kept = ~up_to(talk.expired)
    own = part.user == me
    private = part.read or part.held or part.sharing.version or part.unread_mark.version
    if not own and (private or part.cleared_through):
        raise Violation("I-25", f"{me} is told what {part.user} keeps private in {talk.id}", repr(part))
    if not own and talk.pair is None and (part.read_shared or part.delivered_shared or part.advances):
        raise Violation("I-21", f"{me} is told of {part.user}'s receipts in the group {talk.id}", repr(part))
    if part.delivered_shared and not login.delivery:
        raise Violation("I-21", f"{me} did not ask for deliveries", repr(part))
    for what, given, true, invariant in (
        ("read", part.read, person.read, "I-4"),
        ("read for others to know", part.read_shared, person.read_shared, "I-25"),
        ("delivered", part.delivered_shared, person.delivered, "I-25"),
    ):
        if bits(given, ANY_SEQ) & ~true & kept:
            raise Violation(
                invariant, f"{me} is told that {part.user} {what} in {talk.id}", f"{shown(true)} / {given}"
            )
    mark = part.unread_mark
    if (
        own
        and mark.version
        and (mark.flagged is not person.flagged or not ranges_agree(mark.ranges, person.again))
    ):
        raise Violation("I-16", f"the unread mark of {me} in {talk.id}", repr(mark))


_JUDGES: dict[str, Callable[[Oracle, Login, Any, list[Any]], None]] = {
    "history": _history,
    "conversations": _conversations,
    "badge": _badge,
    "explained": _explained,
    "statistics": _statistics,
    "page": _page,
}
