"""The one table of frames: which number stands for which type. No encoding here.

Numbers are never used again for something else, also when a frame goes out of use: an old peer would
misread it. Commands are 1 to 63, updates from 64 on.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from receipts.core import events

from . import commands, updates

__all__ = ["ANSWERED_BY", "CODE_OF", "COMMANDS", "UPDATES", "UPDATES_FROM"]

UPDATES_FROM: Final = 64
"""Codes below are commands."""

COMMANDS: Final = MappingProxyType(
    {
        1: commands.Hello,
        2: commands.SendMessage,
        3: commands.AckDelivered,
        4: commands.ReadConversation,
        5: commands.ReadMessages,
        6: commands.MarkUnread,
        7: commands.RecallMessage,
        8: commands.ClearConversation,
        9: commands.SetSharing,
        10: commands.SetMuted,
        11: commands.CreateGroup,
        12: commands.AddMembers,
        13: commands.RemoveMembers,
        14: commands.SetRole,
        15: commands.ChangeGroup,
        16: commands.DissolveGroup,
        17: commands.FetchHistory,
        18: commands.ListConversations,
        19: commands.ListMembers,
        20: commands.ListReaders,
        21: commands.GetStatus,
        22: commands.ExplainUnread,
        23: commands.GetBadge,
        24: commands.ListDevices,
        25: commands.LogOutDevice,
        26: commands.ChangePassword,
        27: commands.AckPage,
        28: commands.AckStatistics,
        29: commands.Ping,
    }
)
"""Client to node, by code."""

UPDATES: Final = MappingProxyType(
    {
        64: events.MessageAccepted,
        65: events.UnreadMarked,
        66: events.MessageRecalled,
        67: events.MessagesExpired,
        68: events.HistoryCleared,
        69: events.MemberJoined,
        70: events.MemberLeft,
        71: events.SharingChanged,
        72: events.RegisterSet,
        73: events.GroupReceiptsExpired,
        74: updates.Delivered,
        75: updates.Read,
        76: updates.GroupRead,
        77: updates.ReadStatistics,
        78: updates.ConversationPart,
        79: updates.CatchUp,
        80: updates.Goodbye,
        81: updates.Welcome,
        82: updates.Accepted,
        83: updates.Done,
        84: updates.Rejected,
        85: updates.History,
        86: updates.Conversations,
        87: updates.Members,
        88: updates.Readers,
        89: updates.Statuses,
        90: updates.Explained,
        91: updates.Badge,
        92: updates.Devices,
        93: updates.Pong,
    }
)
"""Node to client, by code."""

CODE_OF: Final[MappingProxyType[type, int]] = MappingProxyType(
    {kind: code for table in (COMMANDS, UPDATES) for code, kind in table.items()}
)
"""The code of every type that can be a frame."""

ANSWERED_BY: Final[MappingProxyType[type, type]] = MappingProxyType(
    {
        commands.Hello: updates.Welcome,
        commands.SendMessage: updates.Accepted,
        commands.AckDelivered: updates.Done,
        commands.ReadConversation: updates.Done,
        commands.ReadMessages: updates.Done,
        commands.MarkUnread: updates.Done,
        commands.RecallMessage: updates.Done,
        commands.ClearConversation: updates.Done,
        commands.SetSharing: updates.Done,
        commands.SetMuted: updates.Done,
        commands.CreateGroup: updates.Done,
        commands.AddMembers: updates.Done,
        commands.RemoveMembers: updates.Done,
        commands.SetRole: updates.Done,
        commands.ChangeGroup: updates.Done,
        commands.DissolveGroup: updates.Done,
        commands.FetchHistory: updates.History,
        commands.ListConversations: updates.Conversations,
        commands.ListMembers: updates.Members,
        commands.ListReaders: updates.Readers,
        commands.GetStatus: updates.Statuses,
        commands.ExplainUnread: updates.Explained,
        commands.GetBadge: updates.Badge,
        commands.ListDevices: updates.Devices,
        commands.LogOutDevice: updates.Done,
        commands.ChangePassword: updates.Done,
        commands.AckPage: updates.Done,
        commands.AckStatistics: updates.Done,
        commands.Ping: updates.Pong,
    }
)
"""What a command is answered with when it succeeds and asked for an answer; else by `Rejected`."""
