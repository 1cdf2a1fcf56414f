"""Two teams, each with a user, a key and a purchase, and an administrator of every role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway.domain.administrator import Role
from tests.support.gateway import Gateway, gateway_and_provider


@dataclass
class Team:
    """Ids of what it has. `key`: the text of its key. `bought`: its purchase as administrators see it."""

    id: str
    user_id: str
    key_id: str
    key: str
    bought: dict[str, Any]


@dataclass
class Organisation:
    """`keys`: the text of each administrator's key, by role; `ids` theirs. The team-admin is of team `ours`."""

    gateway: Gateway
    ours: Team
    theirs: Team
    keys: dict[Role, str] = field(default_factory=dict)
    ids: dict[Role, str] = field(default_factory=dict)

    async def call(self, who: Role | str, method: str, path: str, json: Any = None, **params: Any) -> httpx.Response:
        """As an administrator of this role, or with this key."""
        key = self.keys[who] if isinstance(who, Role) else who
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.gateway.base_url}/admin/v1{path}"
        return await self.gateway.http.request(method, url, json=json, params=params, headers=headers)

    async def data(self, who: Role | str, path: str, **params: Any) -> Any:
        """What a GET answers: the items, if it is a list."""
        response = await self.call(who, "GET", path, **params)
        assert response.status_code == 200, response.text
        found = response.json()
        return found["data"] if isinstance(found, dict) and found.get("object") == "list" else found


@asynccontextmanager
async def organisation(data_dir: Path, **overrides: Any) -> AsyncIterator[Organisation]:
    async with gateway_and_provider(data_dir, **overrides) as (gateway, _):
        ours, theirs = [await _new_team(gateway, name, seed=seed) for seed, name in enumerate(("Ours", "Theirs"), 1)]
        made = Organisation(gateway, ours, theirs)
        for role in Role:
            team_id = ours.id if role is Role.TEAM_ADMIN else None
            body = {"name": f"The {role}", "role": role, "team_id": team_id}
            created = await gateway.admin("POST", "/administrators", body)
            made.keys[role], made.ids[role] = created["key"], created["id"]
        yield made


async def _new_team(gateway: Gateway, name: str, *, seed: int) -> Team:
    team = await gateway.admin("POST", "/teams", {"name": name})
    user = await gateway.admin("POST", "/users", {"name": f"{name} user", "team_id": team["id"]})
    key = await gateway.admin("POST", "/keys", {"user_id": user["id"], "name": f"{name} key"})
    answer = await gateway.generate(key["key"], seed=seed, prompt=f"Of {name}")
    assert answer.status_code == 200, answer.text
    bought = await gateway.admin("GET", f"/generations/{answer.headers['darkroom-generation-id']}")
    return Team(team["id"], user["id"], key["id"], key["key"], bought)
