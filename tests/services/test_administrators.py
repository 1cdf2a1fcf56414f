"""Administrators: their keys, roles and ends, on both engines."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.domain.admin_key import parse_admin_key
from gateway.domain.administrator import OWNER, Administrator, Permission, Role
from gateway.domain.api_key import Mode, new_api_key
from gateway.errors import Conflict, Forbidden, InvalidApiKey, InvalidRequest, KeyDisabled, NotFound
from gateway.services.accounts import AccountService
from gateway.services.administrators import Administrators
from gateway.storage.audit import EventFilter, list_events
from gateway.storage.database import Database, now_ms
from gateway.storage.tables_accounts import administrators as table

ADA = Administrator(id="adm_other", name="Ada", role=Role.OWNER)


@pytest.fixture
def administrators(database: Database) -> Administrators:
    return Administrators(database, [b"new pepper", b"old pepper"], owner_key="the-key-of-the-configuration")


@pytest.fixture
async def team_id(database: Database) -> str:
    accounts = AccountService(database, [b"pepper"], [], notify=lambda _kind, _id: None)
    return (await accounts.create_team(actor="admin", name="Search")).id


async def test_a_key_is_shown_once_and_only_its_hash_is_stored(database: Database, administrators: Administrators):
    made = await administrators.create(actor="admin", name="Eve", role=Role.VIEWER)
    key = parse_admin_key(made.text)
    assert key is not None
    assert (len(made.text), key.prefix) == (59, made.administrator.prefix)
    assert made.text not in repr(key)

    def everything(conn: sa.Connection) -> str:
        logged = conn.exec_driver_sql("SELECT * FROM audit_log").all()
        return str([*conn.execute(sa.select(table)), *logged])

    stored = await database.read(everything)
    assert key.prefix in stored
    assert made.text not in stored
    assert made.text[len(key.prefix) :] not in stored


async def test_the_key_of_the_configuration_is_the_owner_s(administrators: Administrators):
    assert await administrators.authenticate("the-key-of-the-configuration") is OWNER
    assert await administrators.find(None) is OWNER
    assert OWNER.actor == "admin"


async def test_an_administrator_signs_in_by_its_key(administrators: Administrators, team_id: str):
    made = await administrators.create(actor="admin", name="Tess", role=Role.TEAM_ADMIN, team_id=team_id)
    tess = await administrators.authenticate(made.text)
    assert (tess.id, tess.name, tess.role, tess.team_id) == (
        made.administrator.id, "Tess", Role.TEAM_ADMIN, team_id,
    )  # fmt: skip
    assert tess.actor == f"Tess ({tess.id})"
    assert await administrators.find(tess.id) == tess


async def test_keys_made_under_an_older_pepper_work_on(database: Database, administrators: Administrators):
    before = Administrators(database, [b"old pepper"], owner_key="x" * 20)
    made = await before.create(actor="admin", name="Old", role=Role.VIEWER)
    assert (await administrators.authenticate(made.text)).name == "Old"
    assert (await before.authenticate(made.text)).name == "Old"
    fresh = await administrators.rotate(made.administrator.id, actor="admin")
    with pytest.raises(InvalidApiKey):
        await before.authenticate(fresh.text)


@pytest.mark.parametrize(
    "token", ["", "wrong", "the-key-of-the-configuration ", "dk_admin_", "\xff", "dk_admin_" + "a" * 50]
)
async def test_what_is_no_key_is_refused(administrators: Administrators, token: str):
    with pytest.raises(InvalidApiKey):
        await administrators.authenticate(token)


async def test_a_callers_key_and_a_forged_one_are_refused(administrators: Administrators):
    made = await administrators.create(actor="admin", name="Eve", role=Role.OWNER)
    other = await administrators.create(actor="admin", name="Eve", role=Role.OWNER)
    prefix = made.administrator.prefix
    for token in (new_api_key(Mode.LIVE).text, prefix + other.text[len(prefix) :], made.text[:-1]):
        with pytest.raises(InvalidApiKey):
            await administrators.authenticate(token)


async def test_a_rotated_key_stops_at_once_and_its_proof_changes(administrators: Administrators):
    made = await administrators.create(actor="admin", name="Eve", role=Role.OPERATOR)
    eve = await administrators.authenticate(made.text)
    proof = await administrators.proof_of(eve)
    assert proof
    assert await administrators.proof_of(eve) == proof
    new = await administrators.rotate(made.administrator.id, actor="admin")
    assert new.administrator.id == made.administrator.id
    assert new.administrator.prefix != made.administrator.prefix
    with pytest.raises(InvalidApiKey):
        await administrators.authenticate(made.text)
    assert await administrators.authenticate(new.text) == eve
    assert await administrators.proof_of(eve) not in {None, proof}


async def test_who_is_disabled_expired_or_deleted_is_out(database: Database, administrators: Administrators):
    made = await administrators.create(actor="admin", name="Eve", role=Role.OPERATOR)
    eve = await administrators.authenticate(made.text)

    async def out(refusal: type[Exception]) -> None:
        with pytest.raises(refusal):
            await administrators.authenticate(made.text)
        assert await administrators.proof_of(eve) is None
        assert await administrators.find(eve.id) is None

    await administrators.update(made.administrator.id, {"disabled": True}, by=OWNER)
    await out(KeyDisabled)
    await administrators.update(made.administrator.id, {"disabled": False}, by=OWNER)
    assert await administrators.authenticate(made.text) == eve

    def run_out(conn: sa.Connection) -> None:
        conn.execute(sa.update(table).values(expires_ms=now_ms(conn)))

    await database.write(run_out)
    await out(KeyDisabled)
    await administrators.update(made.administrator.id, {"expires_ms": None}, by=OWNER)
    await administrators.delete(made.administrator.id, by=OWNER)
    await out(InvalidApiKey)
    with pytest.raises(NotFound):
        await administrators.get(made.administrator.id)


async def test_the_owner_s_proof_changes_with_its_key(database: Database, administrators: Administrators):
    changed = Administrators(database, [b"new pepper"], owner_key="another-key-altogether")
    proofs = {await administrators.proof_of(OWNER), await changed.proof_of(OWNER)}
    assert len(proofs) == 2
    assert None not in proofs


async def test_a_team_admin_has_a_team_and_nobody_else(administrators: Administrators, team_id: str):
    async def create(role: Role, team: str | None) -> str:
        return (await administrators.create(actor="admin", name="x", role=role, team_id=team)).administrator.id

    with pytest.raises(InvalidRequest, match="needs the team"):
        await create(Role.TEAM_ADMIN, None)
    with pytest.raises(InvalidRequest, match="no team with this id"):
        await create(Role.TEAM_ADMIN, "team_none")
    for role in set(Role) - {Role.TEAM_ADMIN}:
        with pytest.raises(InvalidRequest, match="only a team-admin has a team"):
            await create(role, team_id)
    tess = await create(Role.TEAM_ADMIN, team_id)
    with pytest.raises(InvalidRequest, match="needs the team"):
        await administrators.update(tess, {"team_id": None}, by=OWNER)
    assert (await administrators.update(tess, {"role": Role.VIEWER}, by=OWNER)).team_id is None
    with pytest.raises(InvalidRequest, match="needs the team"):
        await administrators.update(tess, {"role": Role.TEAM_ADMIN}, by=OWNER)
    back = await administrators.update(tess, {"role": Role.TEAM_ADMIN, "team_id": team_id}, by=OWNER)
    assert (back.role, back.team_id) == (Role.TEAM_ADMIN, team_id)


async def test_nobody_changes_what_it_may_do_itself(administrators: Administrators):
    made = await administrators.create(actor="admin", name="Olga", role=Role.OWNER)
    olga = await administrators.authenticate(made.text)
    for values in ({"role": Role.VIEWER}, {"disabled": False}, {"expires_ms": None}, {"name": "x", "team_id": None}):
        with pytest.raises(Conflict):
            await administrators.update(made.administrator.id, values, by=olga)
    with pytest.raises(Conflict):
        await administrators.delete(made.administrator.id, by=olga)
    assert (await administrators.update(made.administrator.id, {"name": "Olga II"}, by=olga)).name == "Olga II"
    assert (await administrators.update(made.administrator.id, {"role": Role.VIEWER}, by=ADA)).role is Role.VIEWER


async def test_an_expiry_in_the_past_is_refused(administrators: Administrators):
    with pytest.raises(InvalidRequest, match="in the past"):
        await administrators.create(actor="admin", name="x", role=Role.VIEWER, expires_ms=1)


async def test_every_change_is_audited_with_who_did_it(database: Database, administrators: Administrators):
    made = await administrators.create(actor="admin", name="Eve", role=Role.VIEWER)
    await administrators.update(made.administrator.id, {"role": Role.OPERATOR}, by=ADA)
    await administrators.rotate(made.administrator.id, actor=ADA.actor)
    await administrators.delete(made.administrator.id, by=ADA)
    page = await database.read(lambda conn: list_events(conn, EventFilter(object_id=made.administrator.id)))
    told = [event.action.removeprefix("administrator.") for event in page.data]
    assert sorted(told) == ["create", "delete", "rotate", "update"]  # two of one millisecond have no order
    assert {event.actor for event in page.data} == {"admin", "Ada (adm_other)"}


async def test_no_name_passes_for_another_administrator(database: Database, administrators: Administrators):
    """An actor is found by the id that ends it, and no name can put another id there."""
    liar = Administrator(id="adm_liar", name="Ada (adm_other)", role=Role.OWNER)
    await administrators.create(actor=liar.actor, name="x", role=Role.VIEWER)

    async def found(actor: str) -> int:
        return len((await database.read(lambda conn: list_events(conn, EventFilter(actor=actor)))).data)

    assert [await found(actor) for actor in ("adm_other", "Ada (adm_other)")] == [0, 0]
    assert [await found(actor) for actor in ("adm_liar", liar.actor)] == [1, 1]


def test_a_role_that_may_not_is_told_what():
    team_id = "team_1"
    viewer = Administrator(id="adm_1", name="Vera", role=Role.VIEWER)
    with pytest.raises(Forbidden, match="Vera is viewer, which may not remove pictures"):
        viewer.require(Permission.PURGE)
    tess = Administrator(id="adm_2", name="Tess", role=Role.TEAM_ADMIN, team_id=team_id)
    assert (tess.team(), tess.team(team_id), viewer.team("team_x"), viewer.team()) == (
        team_id, team_id, "team_x", None,
    )  # fmt: skip
    with pytest.raises(Forbidden):
        tess.team("team_x")
