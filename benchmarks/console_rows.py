"""A gateway's database as it is after a busy quarter: a million calls of 300 users in 12 teams, 20,000 pictures.

Written straight into SQLite while the gateway is down. The totals are sums of the rows, so that what the console shows
can be checked against them. Nine calls in ten are hits; 100,000 purchases, of which the latest 20,000 have their
pictures, in a tenth of as many files; every call but one in ten carries tags; one in thirty failed.
"""

from __future__ import annotations

import hashlib
import io
import random
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gateway.storage.images import key_of

DAYS = 90
USERS, TEAMS = 300, 12
_PRICE = 65_000
_DAY_MS = 86_400_000
_FILES = 2000
RARE_MODEL = "flux-rare"
WORDS = (
    "lighthouse",
    "dawn",
    "fog",
    "marble",
    "portrait",
    "astronaut",
    "neon",
    "city",
    "river",
    "mountain",
    "cat",
    "velvet",
    "glass",
    "storm",
    "forest",
)


@dataclass(frozen=True)
class Filled:
    """How much there is, and from when to when (milliseconds)."""

    calls: int
    pictures: int
    from_ms: int
    to_ms: int


def fill(data_dir: Path, *, calls: int = 1_000_000, pictures: int = 20_000) -> Filled:
    """Into the database of a gateway that has made it and is down. The calls end an hour ago."""
    to_ms = int(time.time() * 1000) - 3_600_000
    filled = Filled(calls, pictures, to_ms - DAYS * _DAY_MS, to_ms)
    hashes = _write_files(data_dir / "images", min(_FILES, pictures))
    with closing(sqlite3.connect(data_dir / "darkroom.db", isolation_level=None)) as sql:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000", "temp_store=MEMORY"):
            sql.execute(f"PRAGMA {pragma}")
        sql.create_function("words", 1, _words, deterministic=True)
        sql.execute("CREATE TEMP TABLE files (n INTEGER PRIMARY KEY, sha256 TEXT)")
        sql.execute("BEGIN")
        sql.executemany("INSERT INTO files VALUES (?, ?)", enumerate(hashes))
        asked = {"calls": calls, "bought": calls // 10, "pictures": pictures, "files": len(hashes)}
        asked |= {"from_ms": filled.from_ms, "span_ms": DAYS * _DAY_MS}
        for statement in (*_ACCOUNTS, _ROWS, *_TOTALS, *_PURCHASES):
            used = {name: value for name, value in asked.items() if f":{name}" in statement}
            sql.execute(statement, used)
        sql.execute("COMMIT")
        sql.execute("PRAGMA journal_mode=WAL")
    return filled


def _words(number: int) -> str:
    chance = random.Random(number)
    return " ".join(chance.choice(WORDS) for _ in range(25)).capitalize()


def _write_files(folder: Path, count: int) -> list[str]:
    made = []
    for number in range(count):
        colours = random.Random(number).randbytes(8 * 8 * 3)
        small = Image.frombytes("RGB", (8, 8), colours)
        out = io.BytesIO()
        small.resize((1024, 768), Image.Resampling.BILINEAR).save(out, "JPEG", quality=85)
        sha256 = hashlib.sha256(out.getvalue()).hexdigest()
        target = folder / key_of(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(out.getvalue())
        made.append(sha256)
    return made


def _id(kind: str, number: str) -> str:
    return f"printf('{kind}_%024d', {number})"


_SEQUENCE = "WITH RECURSIVE seq(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM seq WHERE n + 1 < {})"
_ACCOUNTS = (
    f"""{_SEQUENCE.format(TEAMS)} INSERT INTO teams (id, name, labels, created_ms)
    SELECT {_id("team", "n")}, 'Team ' || n, '{{}}', :from_ms FROM seq""",
    f"""{_SEQUENCE.format(USERS)} INSERT INTO users (id, name, email, team_id, labels, created_ms)
    SELECT {_id("user", "n")}, 'User ' || n, 'user' || n || '@example.com', {_id("team", f"n % {TEAMS}")}, '{{}}',
        :from_ms
    FROM seq""",
    f"""{_SEQUENCE.format(USERS)} INSERT INTO keys (id, user_id, name, mode, prefix, hash, labels, created_ms)
    SELECT {_id("key", "n")}, {_id("user", "n")}, 'ci', iif(n % 30, 'live', 'test'), printf('dk_live_%012d', n), 'x',
        '{{}}', :from_ms
    FROM seq""",
    "INSERT INTO limits SELECT 'user', id, 'cost_usd', 'month', 30000000, '[80,100]' FROM users",
    "INSERT INTO limits SELECT 'user', id, 'images', 'day', 50, NULL FROM users",
    "INSERT INTO limits SELECT 'team', id, 'cost_usd', 'month', 900000000, '[80,100]' FROM teams",
    "INSERT INTO limits SELECT 'key', id, 'requests', 'month', 5000, NULL FROM keys",
)
_ROWS = f"""
{_SEQUENCE.format(":calls")},
    call(n, who, outcome) AS (
        SELECT n, (n * 7919 + n / {USERS} * 13) % {USERS},
            CASE WHEN n % 10 = 0 THEN 'bought' WHEN n % 30 = 1 THEN 'refused' WHEN n % 50 = 3 THEN 'joined'
                ELSE 'hit' END
        FROM seq
    )
INSERT INTO usage_log (at_ms, id, mode, key_id, user_id, team_id, model, provider, outcome, status, code, images,
    cost_micro_usd, saved_micro_usd, latency_us, generation_id, tags)
SELECT :from_ms + n * :span_ms / :calls, printf('req_%024d', n), iif(who % 30, 'live', 'test'), {_id("key", "who")},
    {_id("user", "who")}, {_id("team", f"who % {TEAMS}")},
    CASE WHEN n % 100003 = 7 THEN '{RARE_MODEL}' WHEN n % 3 THEN 'flux-pro' ELSE 'flux-dev' END,
    iif(who % 30, 'aimlapi', 'sandbox'), outcome,
    CASE WHEN outcome != 'refused' THEN 200 WHEN n % 9 = 1 THEN 503 WHEN n % 4 = 1 THEN 400 ELSE 429 END,
    CASE WHEN outcome != 'refused' THEN NULL WHEN n % 9 = 1 THEN 'provider_unavailable'
        WHEN n % 4 = 1 THEN 'invalid_request' ELSE 'quota_exceeded' END,
    outcome != 'refused', iif(outcome = 'bought', {_PRICE}, 0), iif(outcome IN ('hit', 'joined'), {_PRICE}, 0),
    iif(outcome = 'bought', 8000000, 150),
    CASE WHEN outcome = 'bought' THEN {_id("gen", "n / 10")} WHEN outcome = 'refused' THEN NULL
        ELSE {_id("gen", "n / 10 * 37 % (n / 10 + 1)")} END,
    CASE WHEN n % 10 = 4 THEN NULL WHEN n % 100003 = 9 THEN '{{"app":"rare"}}'
        ELSE printf('{{"app":"app%d","env":"%s"}}', n % 7, iif(n % 4, 'prod', 'dev')) END
FROM call
"""
_MEASURES = """count(*), sum(status != 429), sum(outcome = 'hit'), sum(outcome = 'joined'), sum(outcome = 'bought'),
    sum(images), sum(status >= 400), sum(cost_micro_usd), sum(saved_micro_usd)"""
_TOTALS = (
    f"""INSERT INTO usage_hourly SELECT at_ms - at_ms % 3600000, mode, key_id, user_id, team_id, model, provider,
    {_MEASURES} FROM usage_log GROUP BY 1, 2, 3, 4, 5, 6, 7""",
    """INSERT INTO usage_daily SELECT hour_ms - hour_ms % 86400000, mode, key_id, user_id, team_id, model, provider,
    sum(requests), sum(counted), sum(hits), sum(joined), sum(generations), sum(images), sum(errors),
    sum(cost_micro_usd), sum(saved_micro_usd) FROM usage_hourly GROUP BY 1, 2, 3, 4, 5, 6, 7""",
    f"""INSERT INTO usage_tags_daily SELECT mode, tag.key, at_ms - at_ms % 86400000, tag.value, key_id, user_id,
    team_id, model, provider, {_MEASURES} FROM usage_log, json_each(tags) AS tag GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9""",
    """INSERT INTO reuses SELECT generation_id, count(*), sum(saved_micro_usd) FROM usage_log
    WHERE outcome IN ('hit', 'joined') GROUP BY 1""",
)
_REQUEST = """'{"prompt":"' || words(n) || '","num_images":1,"output_format":"jpeg",' ||
    '"image_size":{"width":1024,"height":768},"guidance_scale":3.5,"num_inference_steps":28,"seed":' || n || '}'"""
_PURCHASES = (
    f"""{_SEQUENCE.format(":bought")}
    INSERT INTO generations (id, status, mode, fingerprint, model, model_version, provider, key_id, user_id, team_id,
        request, expected, images, megapixels, reserved_micro_usd, cost_micro_usd, adjusted_micro_usd, overrun,
        price_rule, published, usage, created_ms, sent_ms, answered_ms, finished_ms)
    SELECT generation_id, 'succeeded', mode, printf('%064x', n), model, '1', provider, key_id, user_id, team_id,
        {_REQUEST}, '{{"images":1,"extension":"jpg","size":[1024,768]}}', 1, 1, {_PRICE}, {_PRICE}, 0, 0,
        '{{"unit":"image","unit_micro_usd":{_PRICE}}}', randomblob(450),
        json_array(at_ms, usage_log.id, mode, key_id, user_id, team_id, model, provider, outcome, status, code, 1, 0,
            0, 0, generation_id), at_ms, at_ms, at_ms + 8000, at_ms + 8100
    FROM seq JOIN usage_log
        ON at_ms = :from_ms + n * 10 * :span_ms / :calls AND usage_log.id = printf('req_%024d', n * 10)
    """,
    """INSERT INTO images SELECT replace(generations.id, 'gen', 'img'), files.sha256, generations.id, 0, 'jpg',
        'image/jpeg', 1024, 768, 20000, finished_ms,
        iif(generations.rowid <= :bought - :pictures, finished_ms + 1, NULL)
    FROM generations JOIN files ON files.n = generations.rowid % :files""",
    "INSERT INTO blobs SELECT DISTINCT sha256, 20000, NULL, NULL FROM files",
    """INSERT INTO cache_entries SELECT fingerprint, generations.id, mode, model, user_id, randomblob(400), finished_ms,
        NULL FROM generations JOIN images ON generation_id = generations.id AND removed_ms IS NULL""",
    f"""INSERT INTO counters SELECT mode, 'user', user_id, 'cost_usd', 'month',
        unixepoch(created_ms / 1000, 'unixepoch', 'start of month') * 1000, sum({_PRICE}), 0
    FROM generations GROUP BY 1, 3, 6""",
    f"""INSERT INTO counters SELECT mode, 'team', team_id, 'cost_usd', 'month',
        unixepoch(created_ms / 1000, 'unixepoch', 'start of month') * 1000, sum({_PRICE}), 0
    FROM generations GROUP BY 1, 3, 6""",
    """INSERT INTO counters SELECT mode, 'user', user_id, 'images', 'day', created_ms / 86400000 * 86400000, count(*), 0
    FROM generations GROUP BY 1, 3, 6""",
)
