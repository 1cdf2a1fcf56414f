"""What a first start of an embedded deployment makes, so that the first call needs no administration."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.api_key import Mode
from gateway.services.accounts import AccountService
from gateway.storage.data_dir import write_secret


async def ready_test_key(accounts: AccountService, data_dir: Path) -> str | None:
    """A test key of a first user, made once and kept in `data_dir/test_key`; None when accounts were made otherwise."""
    file = data_dir / "test_key"
    if file.exists():
        return file.read_text(encoding="ascii").strip()
    if (await accounts.list_users(limit=1)).data:
        return None
    user = await accounts.create_user(actor="first run", name="First user")
    made = await accounts.create_key(actor="first run", user_id=user.id, name="Ready test key", mode=Mode.TEST)
    write_secret(file, made.text)
    return made.text
