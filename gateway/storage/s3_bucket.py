"""A bucket of S3, or of a store that speaks like it: how it is opened, and what its failures are to us.

Server gone (unreachable, slow, refusing, bucket deleted): `asking` raises the refusal it was given, within 20 s.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.errors import StorageFailed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_PATIENCE_S = 20.0
_CLIENT: ClientConfig = {"connect_timeout": "3s", "read_timeout": "15s", "timeout": "10m"}
_RETRIES: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z -]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")


def open_bucket(
    name: str,
    *,
    prefix: str = "",
    endpoint_url: str | None = None,
    region: str | None = None,
    credentials: tuple[str, str] | None = None,
) -> S3Store:
    """Connects at the first use. What is None is read from the usual AWS environment.

    Objects are deleted one by one: not every store has the call for many.
    """
    config: S3Config = {"checksum_algorithm": "SHA256", "disable_bulk_delete": True}
    if endpoint_url is not None:
        config["aws_endpoint_url_s3"] = endpoint_url
    if region is not None:
        config["region"] = region
    if credentials is not None:
        config["access_key_id"], config["secret_access_key"] = credentials
    client: ClientConfig = {**_CLIENT, "allow_http": endpoint_url is not None and endpoint_url.startswith("http:")}
    return S3Store(name, prefix=prefix or None, config=config, client_options=client, retry_config=_RETRIES)


@asynccontextmanager
async def asking(refusal: Callable[[str], StorageFailed], *, patience_s: float = _PATIENCE_S) -> AsyncIterator[None]:
    """Whatever fails at the server is that refusal, and so is what takes too long."""
    try:
        async with asyncio.timeout(patience_s):
            yield
    except TimeoutError:
        raise refusal(f"the bucket did not answer within {patience_s:g} s") from None
    except (BaseError, OSError) as exc:
        raise refusal(_reason(exc)) from None


def _reason(exc: Exception) -> str:
    """In a few words: obstore's own ones are a page long and name the server, which callers need not know."""
    said = [match[1] for match in (_STATUS.search(str(exc)), _CODE.search(str(exc))) if match]
    return f"the bucket says {', '.join(said)}" if said else "the bucket can't be reached"


def is_missing(exc: FileNotFoundError) -> bool:
    """Whether it is the object that is not there, not its bucket."""
    return "NoSuchBucket" not in str(exc)


def lacks_conditions(exc: Exception) -> bool:
    """Whether the server says that it can't put on the condition that nothing is there yet."""
    return "status code: 501" in str(exc) or "<Code>NotImplemented" in str(exc)
