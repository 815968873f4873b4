"""`receipts demo`: it observes every behaviour, and notices when one is missing."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.app.conftest import COMMAND, SECONDS_MAX, environment, ok, receipts

NAMES = [f"R{number}" for number in range(1, 14)]
SECONDS_PROMISED = 20


@pytest.mark.parametrize("loop", ["uvloop", "asyncio", "trio"])
def test_every_behaviour_is_observed(loop: str) -> None:
    """On each event loop the demo prints R1 to R13, one line each, with what it saw, and exits with 0
    within the time that is promised."""
    done = receipts("demo", "--loop", loop, seconds=SECONDS_PROMISED)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert not [line for line in lines if "NOT OBSERVED" in line]


def test_what_is_missing_is_named(place: Path) -> None:
    """In an app where plain members may ask for receipts, R6 is not observed: the demo says so, plays on,
    and exits with 1."""
    settings = place / "lax.toml"
    settings.write_text('[groups]\nmay_ask_receipts = "member"\n')
    done = receipts("demo", "--settings", settings)
    assert done.returncode == 1
    assert done.stderr.startswith("receipts: not observed: R6")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert lines[5] == "R6 group read receipt: NOT OBSERVED: dan, a plain member, may ask for receipts"
    assert not [line for line in lines[:5] if "NOT OBSERVED" in line]


def test_it_stays_for_visitors() -> None:
    """With --serve the node stays: the printed commands log in, and a signal ends it with 0."""
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--serve"], stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if line.startswith("serving "):
                break
        calls = re.findall(r"RECEIPTS_TOKEN=(\S+) receipts (chat \S+ --user \S+)", "".join(said))
        assert len(calls) == 2
        for token, call in calls:
            out = ok(*call.split(), stdin="/list\n", env={"RECEIPTS_TOKEN": token})
            assert "unread" in out
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(SECONDS_MAX) == 0
    finally:
        demo.kill()
        demo.communicate()
