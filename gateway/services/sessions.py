"""Who is signed in at the console: an administrator or a caller, by a key that was shown once at the door.

The browser holds a random token, SQL its hash. A session ends by itself, by signing out, and at once when the key that
opened it is rotated, disabled or deleted.

SQL gone: LedgerUnavailable.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

import sqlalchemy as sa

from gateway.domain.administrator import Administrator
from gateway.domain.api_key import parse_api_key
from gateway.domain.caller import Caller
from gateway.errors import DarkroomError, InvalidApiKey
from gateway.services.administrators import Administrators
from gateway.services.callers import CallerDirectory
from gateway.storage import sessions
from gateway.storage.database import Database, now_ms
from gateway.storage.sessions import SessionRow

_TOKEN_BYTES = 32
_CONFIGURED = "configuration"
"""The subject of a session that the configuration's own admin key opened."""


class SignedIn(NamedTuple):
    """`csrf`: what every form of this session has to say."""

    identity: Administrator | Caller
    csrf: str


class Sessions:
    def __init__(
        self, database: Database, administrators: Administrators, callers: CallerDirectory, *, life_s: int
    ) -> None:
        self._database = database
        self._administrators = administrators
        self._callers = callers
        self.life_s = life_s

    async def sign_in(self, key: str) -> str:
        """A session's token for whoever has this key, an administrator's or a caller's.

        Raises InvalidApiKey and KeyDisabled.
        """
        kind, subject_id, proof = await self._subject(key.strip())
        token = secrets.token_urlsafe(_TOKEN_BYTES)

        def work(conn: sa.Connection) -> None:
            now = now_ms(conn)
            row = SessionRow(
                token_hash=_hash(token),
                kind=kind,
                subject_id=subject_id,
                proof=proof,
                csrf=secrets.token_urlsafe(_TOKEN_BYTES),
                created_ms=now,
                expires_ms=now + self.life_s * 1000,
            )
            sessions.insert(conn, row)

        await self._database.write(work)
        return token

    async def find(self, token: str) -> SignedIn | None:
        """Who holds this token; None when it is not, or no more, a session's."""
        row = await self._database.read(lambda conn: sessions.find(conn, _hash(token)))
        if row is None:
            return None
        identity = await (self._administrator(row) if row.kind == "administrator" else self._caller(row))
        return None if identity is None else SignedIn(identity, row.csrf)

    async def sign_out(self, token: str) -> None:
        await self._database.write(lambda conn: sessions.delete(conn, _hash(token)))

    async def _subject(self, key: str) -> tuple[str, str, str]:
        """Kind, id and proof of whoever has the key."""
        if parse_api_key(key) is not None:
            caller = await self._callers.authenticate(key)
            return "caller", caller.key_prefix, caller.key_hash
        administrator = await self._administrators.authenticate(key)
        proof = await self._administrators.proof_of(administrator)
        if proof is None:
            raise InvalidApiKey("This administrator's key was just withdrawn.")
        return "administrator", administrator.id or _CONFIGURED, proof

    async def _administrator(self, row: SessionRow) -> Administrator | None:
        subject_id = None if row.subject_id == _CONFIGURED else row.subject_id
        administrator = await self._administrators.find(subject_id)
        if administrator is None or await self._administrators.proof_of(administrator) != row.proof:
            return None
        return administrator

    async def _caller(self, row: SessionRow) -> Caller | None:
        try:
            caller = await self._callers.holder(row.subject_id)
        except DarkroomError:  # expired or disabled since
            return None
        return caller if caller is not None and caller.key_hash == row.proof else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
