"""The commands: what they ask of the gateway, what they show, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.support.canned_gateway import Asked, CannedGateway, Reply, canned_gateway

TEAM = {"id": "team_1", "name": "Search [red]", "labels": {"env": "prod"}, "created_at": "2026-11-22T20:00:00Z"}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CannedGateway]:
    monkeypatch.chdir(tmp_path)
    with canned_gateway() as canned:
        monkeypatch.setenv("DARKROOM_BASE_URL", canned.url)
        monkeypatch.setenv("DARKROOM_ADMIN_KEY", "admin-key-of-the-tests")
        monkeypatch.setenv("DARKROOM_API_KEY", "dk_test_x")
        yield canned


def run(*args: str, status: int = 0, given: str | None = None):
    result = CliRunner().invoke(app, args, input=given)
    assert result.exit_code == status, result.output
    return result


def page(*items: object, cursor: str | None = None) -> Reply:
    return Reply(200, {"object": "list", "data": items, "has_more": cursor is not None, "next_cursor": cursor})


def sent(gateway: CannedGateway) -> tuple[str, str, object]:
    last = gateway.asked[-1]
    return last.method, last.path, last.body


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("team create Search --label env=prod", ("POST", "teams", {"name": "Search", "labels": {"env": "prod"}})),
        ("team update team_1 --name New", ("PATCH", "teams/team_1", {"name": "New"})),
        ("user create Ada --team team_1", ("POST", "users", {"name": "Ada", "team_id": "team_1"})),
        ("user update user_1 --email ''", ("PATCH", "users/user_1", {"email": None})),
        (
            "key create --user user_1 --mode test --model flux-pro",
            ("POST", "keys", {"user_id": "user_1", "mode": "test", "models": ["flux-pro"]}),
        ),
        ("key update key_1 --disable", ("PATCH", "keys/key_1", {"disabled": True})),
        ("key update key_1 --enable", ("PATCH", "keys/key_1", {"disabled": False})),
        ("key rotate key_1 --overlap-s 0", ("POST", "keys/key_1/rotate", {"overlap_s": 0})),
        ("key get key_1", ("GET", "keys/key_1", None)),
        ("user delete user_1", ("DELETE", "users/user_1", None)),
        ("admin create Ada --role viewer", ("POST", "administrators", {"name": "Ada", "role": "viewer"})),
        ("admin update adm_1 --expires-at ''", ("PATCH", "administrators/adm_1", {"expires_at": None})),
        ("admin rotate adm_1", ("POST", "administrators/adm_1/rotate", None)),
    ],
)
def test_a_command_is_one_call(gateway: CannedGateway, command: str, expected: tuple[str, str, object]):
    method, path, body = expected
    gateway.answers[f"{method} /admin/v1/{path}"] = Reply(200, {"id": "x_1"})
    run(*[word.strip("'") for word in command.split()])
    assert sent(gateway) == (method, f"/admin/v1/{path}", body)
    assert gateway.asked[-1].headers["authorization"] == "Bearer admin-key-of-the-tests"


def test_a_team_is_deleted_only_when_it_is_known_what_stops(gateway: CannedGateway):
    gateway.answers["GET /admin/v1/teams/team_1"] = Reply(200, TEAM | {"users": 2, "usable_keys": 3})
    gateway.answers["DELETE /admin/v1/teams/team_1"] = Reply(204, b"")
    asked = run("team", "delete", "team_1", given="n\n", status=1)
    assert "users in it: 2, keys of theirs that stop working: 3" in asked.output
    assert [each.method for each in gateway.asked] == ["GET"]
    run("team", "delete", "team_1", given="y\n")
    run("team", "delete", "team_1", "--yes")
    assert [each.method for each in gateway.asked] == ["GET", "GET", "DELETE", "DELETE"]


def test_a_list_is_a_table_or_json_over_all_its_pages(gateway: CannedGateway):
    second = {**TEAM, "id": "team_2"}
    gateway.answers["GET /admin/v1/teams"] = lambda asked: (
        page(second) if "cursor" in asked.query else page(TEAM, cursor="next")
    )
    table = run("team", "list").stdout
    assert "team_2" in table
    assert "Search [red]  env=prod" in table
    assert json.loads(run("team", "list", "--json").stdout) == [TEAM, second]
    assert [asked.query.get("cursor") for asked in gateway.asked[:2]] == [None, "next"]


def test_a_limit_is_set_among_the_others_and_unset(gateway: CannedGateway):
    other = {"metric": "images", "window": "day", "amount": "5"}
    old = {"metric": "cost_usd", "window": "month", "amount": "1"}
    path = "/admin/v1/users/user_1/limits"
    gateway.answers[f"GET {path}"] = Reply(200, [other, old])
    gateway.answers[f"PUT {path}"] = lambda asked: Reply(200, asked.body)
    run("limit", "set", "--user", "user_1", "cost_usd", "month", "100")
    assert gateway.asked[-1].body == [other, {**old, "amount": "100"}]
    run("limit", "set", "--user", "user_1", "concurrency", "3")
    assert gateway.asked[-1].body[-1] == {"metric": "concurrency", "window": None, "amount": "3"}
    run("limit", "set", "--user", "user_1", "cost_usd", "month", "9", "--alert-at", "100", "--alert-at", "80")
    assert gateway.asked[-1].body[-1] == {**old, "amount": "9", "alert_at": [80, 100]}
    run("limit", "unset", "--user", "user_1", "cost_usd", "month")
    assert gateway.asked[-1].body == [other]


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), {"alert_at": [80]}), (("--alert-at", "50"), {"alert_at": [50]}), (("--no-alerts",), {})],
)
def test_a_limit_keeps_its_alerts_unless_others_are_given(
    gateway: CannedGateway, options: tuple[str, ...], expected: dict[str, object]
):
    limit = {"metric": "cost_usd", "window": "month"}
    path = "/admin/v1/users/user_1/limits"
    gateway.answers[f"GET {path}"] = Reply(200, [{**limit, "amount": "50", "alert_at": [80]}])
    gateway.answers[f"PUT {path}"] = lambda asked: Reply(200, asked.body)
    run("limit", "set", "--user", "user_1", "cost_usd", "month", "60", *options)
    assert gateway.asked[-1].body == [{**limit, "amount": "60", **expected}]
    assert "not both" in run(
        "limit", "set", "--user", "u", "cost_usd", "month", "6", "--no-alerts", "--alert-at", "1", status=1
    ).stderr  # fmt: skip


HOOK: dict[str, Any] = {
    "id": "hook_1", "object": "webhook", "name": "pager", "url": "https://example.com/x", "disabled": False,
    "created_at": "2026-11-22T20:00:00Z", "disabled_at": None,
}  # fmt: skip


def test_a_webhook_is_made_shown_changed_and_deleted(gateway: CannedGateway):
    path = "/admin/v1/webhooks"
    gateway.answers |= {
        f"POST {path}": Reply(201, {**HOOK, "secret": "whsec_abc"}),
        f"GET {path}": Reply(200, {"object": "list", "data": [HOOK], "has_more": False, "next_cursor": None}),
        f"GET {path}/hook_1": Reply(200, HOOK),
        f"PATCH {path}/hook_1": lambda asked: Reply(200, {**HOOK, **asked.body}),
        f"DELETE {path}/hook_1": Reply(204, b""),
        f"POST {path}/hook_1/rotate": Reply(201, {**HOOK, "secret": "whsec_def"}),
    }
    assert "whsec_abc" in run("webhook", "create", "pager", HOOK["url"]).stdout
    assert gateway.asked[-1].body == {"name": "pager", "url": HOOK["url"]}
    assert "hook_1" in run("webhook", "list").stdout
    assert json.loads(run("webhook", "get", "hook_1", "--json").stdout) == HOOK
    run("webhook", "update", "hook_1", "--disable", "--name", "desk")
    assert gateway.asked[-1].body == {"name": "desk", "disabled": True}
    assert "Say what to change" in run("webhook", "update", "hook_1", status=1).stderr
    assert "whsec_def" in run("webhook", "rotate", "hook_1").stdout
    assert "Deleted hook_1." in run("webhook", "delete", "hook_1").stdout


def test_a_webhook_is_tested_and_its_log_listed(gateway: CannedGateway):
    delivery = {"id": "dlv_1", "webhook_id": "hook_1", "alert_id": None, "status": "failed", "last_status": 500}
    gateway.answers["POST /admin/v1/webhooks/hook_1/test"] = Reply(200, delivery)
    assert "500" in run("webhook", "test", "hook_1", status=1).stdout
    gateway.answers["POST /admin/v1/webhooks/hook_1/test"] = Reply(200, {**delivery, "status": "delivered"})
    run("webhook", "test", "hook_1")
    page = {"object": "list", "data": [delivery], "has_more": False, "next_cursor": None}
    gateway.answers["GET /admin/v1/deliveries"] = Reply(200, page)
    assert "dlv_1" in run("webhook", "deliveries", "hook_1", "--status", "failed").stdout
    assert {"webhook_id": "hook_1", "status": "failed"}.items() <= gateway.asked[-1].query.items()
    gateway.answers["POST /admin/v1/deliveries/dlv_1/retry"] = Reply(200, delivery)
    assert "500" in run("webhook", "retry", "dlv_1", status=1).stdout
    gateway.answers["POST /admin/v1/deliveries/dlv_1/retry"] = Reply(200, {**delivery, "status": "delivered"})
    run("webhook", "retry", "dlv_1")


@pytest.mark.parametrize(
    ("typed", "path", "row", "query"),
    [
        (
            "audit --actor adm_1 --action key.create --object key_1 --limit 5",
            "/admin/v1/audit",
            {"at": "2026-11-22T20:00:00Z", "actor": "Ada (adm_1)", "action": "key.create", "detail": {"name": "ci"}},
            {"actor": "adm_1", "action": "key.create", "object_id": "key_1", "limit": "5"},
        ),
        (
            "alerts --team team_1 --of user_1 --from 2026-11-01 --to 2026-12-01 --mode live",
            "/admin/v1/alerts",
            {"at": "2026-11-22T20:00:00Z", "limit": "user-cost_usd-month", "percent": 80, "used": "40.3"},
            {"team_id": "team_1", "scope_id": "user_1", "from": "2026-11-01", "to": "2026-12-01", "mode": "live"},
        ),
    ],
)
def test_what_was_changed_and_what_filled_up_is_listed(
    gateway: CannedGateway, typed: str, path: str, row: dict[str, Any], query: dict[str, str]
):
    gateway.answers[f"GET {path}"] = Reply(
        200, {"object": "list", "data": [row], "has_more": False, "next_cursor": None}
    )
    shown = run(*typed.split()).stdout
    for value in row.values():
        assert ("name=ci" if isinstance(value, dict) else str(value)) in shown
    assert query.items() <= gateway.asked[-1].query.items()
    assert json.loads(run(*typed.split(), "--json").stdout) == [row]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("cost_usd month $50", "amount: '$50' can't be read; write it like 50 or 0.5, without signs or separators."),
        ("cost_usd month 1,000", "amount: '1,000' can't be read"),
        ("cost_usd month 1e9", "amount: '1e9' can't be read"),
        ("requests minute 2.5", "amount: '2.5' can't be read; write it like 50, a whole number, without"),
        ("cost_usd week 50", "window: 'week' is not one of minute, hour, day, month, total."),
        ("dollars month 50", "metric: 'dollars' is not one of requests, images, megapixels, cost_usd, concurrency."),
        ("cost_usd 50", "a limit of cost_usd needs a window: minute, hour, day, month or total."),
        ("concurrency day 5", "concurrency counts purchases under way: it has no window."),
    ],
)
def test_a_limit_that_can_t_be_read_is_told_before_it_is_sent(gateway: CannedGateway, typed: str, said: str):
    assert said in run("limit", "set", "--user", "user_1", *typed.split(), status=1).stderr
    assert gateway.asked == []


def test_a_limit_that_is_not_there_can_t_be_unset(gateway: CannedGateway):
    gateway.answers["GET /admin/v1/users/user_1/limits"] = Reply(200, [])
    shown = run("limit", "unset", "--user", "user_1", "cost_usd", "month", status=1).stderr
    assert "There is no limit cost_usd month here" in shown
    assert [asked.method for asked in gateway.asked] == ["GET"]


@pytest.mark.parametrize("scope", [[], ["--user", "u", "--team", "t"]])
def test_a_limit_needs_exactly_one_scope(gateway: CannedGateway, scope: list[str]):
    assert "Say whose limits" in run("limit", "list", *scope, status=1).stderr


def test_usage_is_a_table_csv_or_json(gateway: CannedGateway):
    numbers = {"requests": 3, "hits": 2, "cost_usd": "0.065", "saved_usd": "0.13"}
    report = {"data": [{"group": {"user": "user_1"}, "bucket": "2026-11-22", **numbers}], "total": numbers}
    gateway.answers["GET /admin/v1/usage"] = lambda asked: Reply(
        200, b"user,requests\nuser_1,3\n" if asked.headers["accept"] == "text/csv" else report
    )
    args = ("usage", "--group-by", "user", "--bucket", "day", "--from", "2026-11-01")
    assert "user_1  2026-11-22  3" in run(*args).stdout
    assert gateway.asked[-1].query == {"group_by": "user", "bucket": "day", "from": "2026-11-01"}
    assert run(*args, "--format", "csv").stdout == "user,requests\nuser_1,3\n"
    assert json.loads(run(*args, "--format", "json").stdout) == report


def test_sums_are_shown_once_and_called_so(gateway: CannedGateway):
    numbers = {"requests": 317, "cost_usd": "0.065"}
    row = {"group": {"user": "user_1"}, "bucket": None, **numbers}
    gateway.answers["GET /admin/v1/usage"] = lambda asked: Reply(
        200, {"data": [row if "group_by" in asked.query else {**row, "group": {}}], "total": numbers}
    )
    assert run("usage").stdout.count("317") == 1
    lines = run("usage", "--group-by", "user").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["user_1", "317"], ["total", "317"]]


def test_a_provider_key_that_nobody_can_be_asked_for_is_read_from_standard_input(gateway: CannedGateway):
    path = "/admin/v1/providers/aimlapi/keys"
    gateway.answers[f"POST {path}"] = Reply(201, {"id": "pkey_1"})
    args = ("provider-key", "create", "--provider", "aimlapi")
    assert "--value-from - reads it from standard input" in run(*args, given="secret\n", status=1).stderr
    assert gateway.asked == []
    run(*args, "--value-from", "-", given="secret\n")
    assert gateway.asked[-1].body == {"value": "secret"}


def test_a_provider_without_a_key_in_the_settings_may_have_a_stored_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIMLAPI_API_KEY", raising=False)
    shown = run("check-config").stdout
    assert "aimlapi has no key here, so live calls get 503 unless one is stored" in shown
    monkeypatch.setenv("AIMLAPI_API_KEY", "a-provider-key")
    assert "has no key" not in run("check-config").stdout


def test_a_cost_far_above_what_is_held_is_asked_about(gateway: CannedGateway):
    path = "/admin/v1/generations/gen_1"
    gateway.answers[f"GET {path}"] = Reply(200, {"id": "gen_1", "reserved_usd": "0.065"})
    gateway.answers[f"POST {path}/settle"] = Reply(200, {"id": "gen_1"})
    args = ("generation", "settle", "gen_1", "--reason", "their invoice")
    run(*args, "0.65")
    shown = run(*args, "65", given="n\n", status=1).stderr
    assert "$65 is more than 10 times the $0.065 held for gen_1" in shown
    assert [asked.body["cost_usd"] for asked in gateway.asked if asked.method == "POST"] == ["0.65"]
    run(*args, "65", "--yes")
    assert gateway.asked[-1].body["cost_usd"] == "65"
    assert "amount: '6,5' can't be read" in run(*args, "6,5", status=1).stderr


def test_a_purge_asks_first(gateway: CannedGateway):
    gateway.answers["POST /admin/v1/cache/purge"] = Reply(200, {"purged": 3})
    run("cache", "purge", "--model", "flux-pro", given="n\n", status=1)
    assert gateway.asked == []
    run("cache", "purge", "--model", "flux-pro", "--yes")
    assert sent(gateway) == ("POST", "/admin/v1/cache/purge", {"model": "flux-pro"})
    assert "Say what to purge" in run("cache", "purge", "--yes", status=1).stderr


def test_a_refusal_is_shown_with_what_helps(gateway: CannedGateway):
    refused = {"error": {"message": "The admin key is wrong."}}
    gateway.answers["GET /admin/v1/keys"] = Reply(503, refused, {"retry-after": "5"})
    result = run("key", "list", status=1)
    assert result.stderr.strip() == "The admin key is wrong. Try again in 5 s."
    assert result.stdout == ""


def test_a_stranger_at_the_address_is_told_apart(gateway: CannedGateway):
    gateway.answers["GET /admin/v1/keys"] = Reply(500, b"<html>")
    assert "Is http" in run("key", "list", status=1).stderr


def test_without_a_gateway_the_command_says_how_to_start_one(gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DARKROOM_BASE_URL", "http://127.0.0.1:1")
    assert "`darkroom serve`" in run("team", "list", status=1).stderr


def test_the_admin_key_is_found_in_the_data_directory(
    gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    gateway.answers["GET /admin/v1/teams"] = page()
    monkeypatch.delenv("DARKROOM_ADMIN_KEY")
    assert "set DARKROOM_ADMIN_KEY" in run("team", "list", status=1).stderr
    for name in ("data", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "admin_key").write_text(f"key-in-{name}\n")
    (tmp_path / "other.yaml").write_text("data_dir: elsewhere\n")
    run("team", "list")
    run("--config", "other.yaml", "team", "list")
    monkeypatch.setenv("FOLDER", "elsewhere")
    monkeypatch.setenv("DARKROOM__DATA_DIR", "./${FOLDER}")
    run("team", "list")
    found = [asked.headers["authorization"] for asked in gateway.asked]
    assert found == ["Bearer key-in-data", "Bearer key-in-elsewhere", "Bearer key-in-elsewhere"]


def knowing_flux_pro(gateway: CannedGateway) -> None:
    properties: dict[str, Any] = {
        name: {} for name in ("model", "prompt", "n", "seed", "guidance_scale", "response_format")
    }
    properties["output_format"] = {"enum": ["jpeg", "png"]}
    gateway.answers["GET /v1/models/flux-pro"] = Reply(200, {"parameters": {"properties": properties}})


def test_a_picture_is_made_and_saved(gateway: CannedGateway, tmp_path: Path):
    knowing_flux_pro(gateway)
    money = {"cache-status": "darkroom; hit", "darkroom-cost-usd": "0", "darkroom-saved-usd": "0.065"}
    answers = iter([Reply(503, {"error": {"message": "wait"}}, {"retry-after": "0"}), None])
    made = Reply(200, {"data": [{"url": "/images/img_1.png"}, {"url": "/images/img_1.png"}]}, money)
    gateway.answers["POST /v1/images/generations"] = lambda _asked: next(answers) or made
    gateway.answers["GET /images/img_1.png"] = Reply(200, b"bytes", {"content-type": "image/png"})
    result = run("generate", "a fox", "--seed", "7", "--n", "2", "--option", "guidance_scale=3.5", "-o", "fox")
    assert gateway.asked[1].body == {
        "model": "flux-pro", "prompt": "a fox", "n": 2, "seed": 7, "guidance_scale": 3.5,
    }  # fmt: skip
    assert "authorization" not in gateway.asked[-1].headers
    assert [(tmp_path / name).read_bytes() for name in ("fox.png", "fox-2.png")] == [b"bytes", b"bytes"]
    assert result.stdout == "fox.png\nfox-2.png\n"
    assert "from the cache; cost $0, saved $0.065" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "no/such/folder/fox.jpg"], "There is no folder no/such/folder"),
        (["-o", "."], ". is a folder: name a file in it."),
        (["-o", "fox.webp"], "fox.webp would hold no webp: flux-pro makes jpeg or png."),
        (["-o", "fox.png", "--format", "jpeg"], "fox.png would hold no png: jpeg was asked for."),
        (["--option", "guidence_scale=3"], "--option guidence_scale: the model takes guidance_scale, n, output_format"),
        (["--option", "response_format=b64_json"], "--option response_format: the model takes"),
    ],
)
def test_nothing_is_bought_that_could_not_be_kept_or_was_misspelt(
    gateway: CannedGateway, options: list[str], said: str
):
    knowing_flux_pro(gateway)
    assert said in run("generate", "a fox", *options, status=1).stderr
    assert "POST" not in {asked.method for asked in gateway.asked}


@pytest.mark.parametrize(("name", "asked"), [("fox.png", "png"), ("fox.JPG", "jpeg"), ("fox", None)])
def test_the_name_of_the_file_says_the_format(gateway: CannedGateway, name: str, asked: str | None):
    knowing_flux_pro(gateway)
    gateway.answers["POST /v1/images/generations"] = Reply(200, {"data": []})
    run("generate", "a fox", "-o", name)
    assert gateway.asked[-1].body.get("output_format") == asked


def test_a_picture_that_could_not_be_saved_is_told_with_its_address(gateway: CannedGateway, tmp_path: Path):
    knowing_flux_pro(gateway)
    gateway.answers["POST /v1/images/generations"] = Reply(
        200, {"data": [{"url": f"{gateway.url}/images/img_{number}.png"} for number in (1, 2, 3)]}
    )
    gateway.answers["GET /images/img_2.png"] = gateway.answers["GET /images/img_3.png"] = Reply(200, b"bytes")
    (tmp_path / "fox-3.png").mkdir()
    shown = run("generate", "a fox", "-o", "fox.png", status=1)
    assert f"It is at {gateway.url}/images/img_1.png (which answers 404)" in shown.stderr
    assert f"fox-3.png can't be written: Is a directory. It is at {gateway.url}/images/img_3.png" in shown.stderr
    assert shown.stdout == "fox-2.png\n"


def quote(asked: Asked) -> Reply:
    return Reply(200, {"cost_usd": "0.065", "hit": asked.body["seed"] == 1})


def test_warming_estimates_asks_and_buys_what_is_missing(gateway: CannedGateway, tmp_path: Path):
    lines = [{"model": "flux-pro", "prompt": "x", "seed": seed} for seed in (1, 2, 3)]
    (tmp_path / "list.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    gateway.answers["POST /v1/images/quote"] = quote
    gateway.answers["POST /v1/images/generations"] = Reply(200, {})
    refused = run("warm", "list.jsonl", given="n\n", status=1)
    assert "3 requests: 1 in the cache, 2 to buy for about $0.13." in refused.stdout
    assert {asked.path for asked in gateway.asked} == {"/v1/images/quote"}
    run("warm", "list.jsonl", "--yes", "--concurrency", "2")
    bought = [asked.body["seed"] for asked in gateway.asked if asked.path == "/v1/images/generations"]
    assert sorted(bought) == [1, 2, 3]


def test_warming_tells_which_lines_failed(gateway: CannedGateway, tmp_path: Path):
    (tmp_path / "list.jsonl").write_text('{"seed": 2}\n{"seed": 3}\n')
    gateway.answers["POST /v1/images/quote"] = quote
    gateway.answers["POST /v1/images/generations"] = lambda asked: (
        Reply(400, {"error": {"message": "no"}}) if asked.body["seed"] == 3 else Reply(200, {})
    )
    assert run("warm", "list.jsonl", "--yes", status=1).stderr.strip().endswith("line 2: no")


def test_a_file_that_is_no_list_of_requests_buys_nothing(gateway: CannedGateway, tmp_path: Path):
    (tmp_path / "list.jsonl").write_text('{"seed": 2}\n[1]\nnonsense\n')
    failed = run("warm", "list.jsonl", "--yes", status=1).stderr
    assert "line 2: not a JSON object" in failed
    assert "line 3: not JSON" in failed
    assert gateway.asked == []


@pytest.mark.parametrize(
    "command", [[], ["admin"], ["team"], ["user"], ["key"], ["limit"], ["cache"], ["usage"], ["warm"]]
)
def test_every_group_explains_itself(command: list[str]):
    assert "Usage" in run(*command, "--help").stdout
