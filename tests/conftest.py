"""What all tests share: the event loops they run on, and Hypothesis profiles."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
import sniffio
from hypothesis import HealthCheck, settings

os.environ["RECEIPTS_FROZEN"] = "1"  # values are frozen in tests; read when `receipts` is first imported

# `fast` is for every run, `deep` (HYPOTHESIS_PROFILE=deep) for the night. No deadlines: machines are busy.
settings.register_profile("fast", max_examples=100, deadline=None)
settings.register_profile(
    "deep", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {"restrict_keyboard_interrupt_to_checkpoints": False}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each event loop that everything must run on; tests marked `anyio` run once on each."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A test without an event loop has none, also while that of a fixture of the whole session is there."""
    if item.get_closest_marker("anyio") is not None:
        yield
        return
    token = sniffio.current_async_library_cvar.set(None)
    try:
        yield
    finally:
        sniffio.current_async_library_cvar.reset(token)
