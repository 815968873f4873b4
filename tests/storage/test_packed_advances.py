"""Read times that are kept packed: the same bytes as packing them all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receipts.core.member import ADVANCES_MAX, Advance, Member
from receipts.storage.codec import PackedAdvances, pack_advances


@given(st.lists(st.lists(st.integers(1, 200), max_size=12), max_size=20))
def test_kept_parts_are_what_packing_gives(commits: list[list[int]]) -> None:
    """Whatever was remembered between two commits, in order or not, repeats among it, the bytes are those of
    packing everything anew."""
    member, packed = Member(), PackedAdvances()
    for versions in commits:
        for version in versions:
            member.remember(Advance(version, 1000 + version, (version, version + 1)))
        assert packed.of(member) == pack_advances(member)


def test_the_usual_case_fills_and_moves_on() -> None:
    """One more at a time, past the number that is kept."""
    member, packed = Member(), PackedAdvances()
    for version in range(1, 3 * ADVANCES_MAX):
        member.remember(Advance(version, version, (version, version + 1)))
        assert packed.of(member) == pack_advances(member)
    assert packed.of(member) == pack_advances(member), "nothing new"
