"""Random stories of SDKs and native devices, with links that break and nodes that die: what each SDK was told
is, in the end, what the node knows, and never more."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from receipts.core.ids import direct, direct_members
from receipts.wire import commands
from tests.easemob.web import APP, Book, Heard, Web
from tests.node.playbook import Device

USERS = ("alice", "bob", "cara")
GROUP = "g1"
STEPS = 120
SETTINGS = (
    '{"limits": {"page_bytes_max": 1500, "sends_burst": 100000, "marks_burst": 100000},'
    ' "groups": {"may_ask_receipts": "member"}}'
)


class Page:
    """An application on the SDK: what it makes of callbacks."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.messages: dict[str, list[int]] = defaultdict(list)
        """By conversation, ids in the order of arrival; own ones that it sent too."""
        self.mine: dict[str, list[int]] = defaultdict(list)
        self.delivered: set[int] = set()
        self.read: set[int] = set()
        self.named: set[int] = set()
        """Of `read`, by receipts of their own. A conversation receipt that was on its way when a link broke
        may come again as these."""
        self.counts: dict[int, int] = {}
        self.unanswered: list[tuple[int, str, bool, bool]] = []
        """Of messages whose answer was lost: local id, to whom, whether a group, whether it asks."""
        self.covered: set[int] = set()
        """Of these, what a conversation receipt has covered since."""
        self._summaries = 0

    def take(self) -> None:
        """Hear what came."""
        for heard in self.web.told():
            getattr(self, f"_{heard.name}")(heard)
        for entry in self.web.statistics[self._summaries :]:
            mid = int(entry["mid"])
            self.counts[mid] = max(self.counts.get(mid, 0), entry["count"])
        self._summaries = len(self.web.statistics)

    def sent(self, conversation: str, mid: int) -> None:
        self.mine[conversation].append(mid)
        self.messages[conversation].append(mid)

    def _message(self, heard: Heard) -> None:
        conversation = GROUP if heard.to == GROUP else direct(heard.sender, heard.to)
        self.messages[conversation].append(int(heard.mid))
        if heard.sender == self.web.user:
            self.mine[conversation].append(int(heard.mid))

    def _delivered(self, heard: Heard) -> None:
        assert int(heard.mid) not in self.delivered, "told twice"
        self.delivered.add(int(heard.mid))

    def _read(self, heard: Heard) -> None:
        mid = int(heard.mid)
        if heard.counts is None:
            assert mid not in self.named, "told twice"
            self.named.add(mid)
            self.read.add(mid)
        else:
            self.counts[mid] = max(self.counts.get(mid, 0), heard.counts[heard.mid])

    def _channel(self, heard: Heard) -> None:
        if heard.sender != self.web.user:
            self.read.update(self.mine[direct(heard.sender, heard.to)])
            self.covered.update(local_id for local_id, to, *_ in self.unanswered if to == heard.sender)


class Story:
    """A node, three users with two SDKs and a phone each, and what happens."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.book = Book(settings=SETTINGS)
        self.book.user(*USERS, app=APP)
        self.book.group(GROUP, *USERS, app=APP)
        self.pages = [
            Page(self.book.web(user, f"webim_web_{number}", delivery=user == "bob" and number == 1))
            for user in USERS
            for number in (1, 2)
        ]
        for page in self.pages:
            page.web.log_in()
        self.phones: dict[str, Device] = {}
        self.authors: dict[int, str] = {}
        self.asked: list[int] = []

    def run(self) -> None:
        steps = (
            (30, self.send),
            (20, self.read_one),
            (12, self.read_all),
            (12, self.answer),
            (10, self.phone),
            (8, self.cut),
            (16, self.come_back),
            (4, self.deaf),
            (2, self.crash),
            (2, self.pass_time),
        )
        weights = [weight for weight, _ in steps]
        for _ in range(STEPS):
            self.chance.choices([step for _, step in steps], weights)[0]()
            for page in self.pages:
                page.take()
            self.check_nothing_too_much()
        self.settle()

    # -- steps

    def somebody(self) -> Page | None:
        here = [page for page in self.pages if page.web.link is not None]
        return self.chance.choice(here) if here else None

    def send(self) -> None:
        page = self.somebody()
        if page is None:
            return
        user = page.web.user
        to = self.chance.choice([GROUP, *(name for name in USERS if name != user)])
        group, asks = to == GROUP, to == GROUP and self.chance.random() < 0.5
        self._say(page, page.web.local_id(), to, group, asks)

    def _say(self, page: Page, local_id: int, to: str, group: bool, asks: bool) -> None:
        web = page.web
        page.take()
        answer = web.body(web.text(to, "hi", group=group, asks=asks), to, group=group, local_id=local_id)
        page.take()
        if answer.code < 0:
            page.unanswered.append((local_id, to, group, asks))
            return
        assert answer.code == 0, answer
        page.sent(GROUP if group else direct(web.user, to), answer.mid)
        self.authors[answer.mid] = web.user
        if local_id in page.covered:
            page.read.add(answer.mid)
        if asks:
            self.asked.append(answer.mid)

    def _say_again(self, page: Page) -> None:
        """What an application does with messages that came to nothing."""
        unanswered, page.unanswered = page.unanswered, []
        for message in unanswered:
            self._say(page, *message)

    def read_one(self) -> None:
        page = self.somebody()
        if page is None:
            return
        known = [
            (name, mid)
            for name, mids in page.messages.items()
            for mid in mids
            if name != GROUP and self.authors.get(mid, page.web.user) != page.web.user
        ]
        if known:
            name, mid = self.chance.choice(known)
            assert page.web.read(other(name, page.web.user), mid).code == 0

    def read_all(self) -> None:
        page = self.somebody()
        if page is not None:
            to = self.chance.choice([GROUP, *(name for name in USERS if name != page.web.user)])
            page.web.read_all(to, group=to == GROUP)

    def answer(self) -> None:
        page = self.somebody()
        known = [mid for mid in self.asked if page is not None and self.authors[mid] != page.web.user]
        if page is not None and known:
            assert page.web.read_group(GROUP, self.chance.choice(known), "ok").code == 0

    def phone(self) -> None:
        user = self.chance.choice(USERS)
        phone = self.phones.get(user)
        if phone is None:
            phone = self.phones[user] = self.book.log_in(
                user, "phone", app=APP, install=f"i-{self.chance.random()}"
            )
        conversation = direct(user, self.chance.choice([name for name in USERS if name != user]))
        if self.chance.random() < 0.5:
            self.authors[phone.send(conversation).message_id] = user
        else:
            through = self.chance.randrange(1, 40)
            phone.do(commands.ReadConversation(rid=0, conversation=conversation, through=through))

    def cut(self) -> None:
        page = self.somebody()
        if page is not None:
            page.web.lose()
            page.web.silent = page.web.mute = False

    def come_back(self) -> None:
        for page in self.pages:
            if page.web.link is None and self.chance.random() < 0.5:
                page.web.log_in()
                page.take()
                self._say_again(page)

    def deaf(self) -> None:
        """Its acknowledgements and receipts are lost from here on, and with them soon the link."""
        page = self.somebody()
        if page is not None:
            page.web.silent = page.web.mute = True

    def crash(self) -> None:
        self.book = self.book.crash()
        self.phones.clear()
        for page in self.pages:
            page.web.move(self.book)
            page.web.silent = page.web.mute = False

    def pass_time(self) -> None:
        self.book.sweep(1000)

    # -- looking

    def check_nothing_too_much(self) -> None:
        """No SDK believes what the node does not know."""
        for page in self.pages:
            for name, mids in page.mine.items():
                if name != GROUP:
                    states = self.states(name, page.web.user)
                    for mid in mids:
                        delivered, read = states[mid]
                        assert read or mid not in page.read, (page.web, name, mid)
                        assert delivered or mid not in page.delivered, (page.web, name, mid)

    def states(self, name: str, user: str) -> dict[int, tuple[bool, bool]]:
        """(delivered, read) of a user's messages in a conversation of two, as others may know."""
        chat = self.book.hub.world.apps[APP].chats.get(name)
        key = {conversation: key for key, _, conversation in self.book.store.all_conversations(0, 99)}[name]
        conversation = self.book.chat(name, APP)
        peer = conversation.members[other(name, user)]
        rows = self.book.store.messages(key, range(1, conversation.head + 1))
        assert chat is None or len(rows) == conversation.head
        return {
            row.message_id: (row.seq in peer.delivered_shared, row.seq in peer.read_shared)
            for row in rows
            if row.author == user
        }

    def settle(self) -> None:
        """Everybody comes, one more message each makes up for lost receipts, and all agree."""
        for page in self.pages:
            if page.web.link is not None:
                page.web.lose()
            page.web.silent = page.web.mute = False
        for page in self.pages:
            page.web.log_in()
            page.take()
            self._say_again(page)
        for page in self.pages[::2]:
            for user in USERS:
                if user != page.web.user:
                    self._say(page, page.web.local_id(), user, False, False)
        for page in self.pages:
            page.take()
            self.check_all_is_known(page)

    def check_all_is_known(self, page: Page) -> None:
        user = page.web.user
        for key, app, name in self.book.store.all_conversations(0, 99):
            if app != APP or (name != GROUP and user not in (direct_members(name) or ())):
                continue
            head = self.book.chat(name, APP).head
            rows = self.book.store.messages(key, range(1, head + 1))
            assert sorted(page.messages[name]) == [row.message_id for row in rows], name
            if name == GROUP:
                for ask in self.asked:
                    readers = self.book.chat(name, APP).asked
                    seq = next(row.seq for row in rows if row.message_id == ask)
                    if self.authors[ask] == user:
                        assert page.counts.get(ask, 0) == len(readers[seq].readers)
                continue
            for mid, (delivered, read) in self.states(name, user).items():
                assert (mid in page.read) == read, (page.web, name, mid)
                assert (mid in page.read | page.delivered) == (delivered or read), (name, mid)


def other(name: str, user: str) -> str:
    pair = direct_members(name)
    assert pair is not None
    return pair[pair[0] == user]


SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_story(seed: int) -> None:
    """Messages come once each to every SDK, receipts are neither lost nor made up, counts agree."""
    Story(seed).run()
