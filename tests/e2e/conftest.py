"""What tests of several replicas ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.demo.provider import FakeProvider
from tests.support.postgres import PostgresServer
from tests.support.replicas import Engines, engines_for
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def engines(tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer) -> Engines:
    return await engines_for(tmp_path, postgres, valkey)


@pytest.fixture
async def fake() -> FakeProvider:
    return FakeProvider()
