"""The yardstick: an ASGI app that does nothing but send the bytes of a hit, on the gateway's uvicorn settings.

`python -m benchmarks.bare_app PORT ANSWER`, where ANSWER is a file made by `keep_answer`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

_BY_THE_SERVER = frozenset({"date"})


def keep_answer(file: Path, headers: list[tuple[str, str]], body: bytes) -> None:
    """Write down an answer, without the headers that the server adds by itself."""
    kept = [pair for pair in headers if pair[0].lower() not in _BY_THE_SERVER]
    file.write_bytes(msgspec.json.encode({"headers": kept, "body": body.decode()}))


def bare_app(file: Path) -> Any:
    answer = msgspec.json.decode(file.read_bytes())
    headers = [(name.encode(), value.encode()) for name, value in answer["headers"]]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    rest = {"type": "http.response.body", "body": answer["body"].encode()}

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        await send(start)
        await send(rest)

    return app


def main() -> None:
    uvicorn.run(
        bare_app(Path(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main()
