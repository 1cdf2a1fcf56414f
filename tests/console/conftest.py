"""What tests of the console share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.administrators import Organisation, organisation
from tests.support.browser import running_browser


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Organisation]:
    """Two teams with a live purchase each, and an administrator of every role."""
    async with organisation(tmp_path / "data") as made:
        yield made
