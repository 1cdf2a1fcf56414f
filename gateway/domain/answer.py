"""An answer: what the provider said (`ProviderAnswer`), what is kept of it (`StoredAnswer`), what callers read.

A stored answer holds no address and no prompt. Both are written when it is rendered: the prompt comes from the
request at hand (equal fingerprint = equal prompt), the addresses from the image ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class AnsweredImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One picture as the provider named it: an address to fetch, or the bytes in base64. One of the two is set."""

    url: str | None = None
    b64: str | None = None


class ProviderAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A provider's 200, read from any of its shapes. None means that the provider did not say.

    `created` is Unix seconds. `cost_micro_usd` is what the provider says it charged.
    """

    images: tuple[AnsweredImage, ...]
    created: int | None = None
    seed: int | None = None
    timings: dict[str, Any] | None = None
    nsfw: tuple[bool, ...] | None = None
    cost_micro_usd: int | None = None
    inference_id: str | None = None


class StoredImage(msgspec.Struct, frozen=True):
    """A picture whose bytes we hold. `id` is the public `img_...`; `sha256` names the bytes."""

    id: str
    sha256: str
    extension: str
    content_type: str
    width: int
    height: int
    size_bytes: int


class StoredAnswer(msgspec.Struct, frozen=True):
    """What the cache keeps of an answer. `cost_micro_usd` is what the generation cost."""

    generation_id: str
    created: int
    images: tuple[StoredImage, ...]
    cost_micro_usd: int
    provider: str
    inference_id: str | None = None
    seed: int | None = None
    timings: dict[str, Any] | None = None
    nsfw: tuple[bool, ...] | None = None


def render(
    answer: StoredAnswer, *, prompt: str, addresses: Sequence[str] = (), b64: Sequence[str] | None = None
) -> bytes:
    """The superset body (contract: Answer, shape B) as JSON bytes.

    With `b64`, items carry `b64_json` and no key `url`: some clients test `"url" in item` first.
    """
    images = [
        ({"url": addresses[i]} if b64 is None else {"b64_json": b64[i]})
        | {"width": image.width, "height": image.height, "content_type": image.content_type}
        for i, image in enumerate(answer.images)
    ]
    body: dict[str, Any] = {"created": answer.created, "images": images, "timings": answer.timings or {}}
    if answer.seed is not None:
        body["seed"] = answer.seed
    if answer.nsfw is not None:
        body["has_nsfw_concepts"] = answer.nsfw
    credits_used = answer.cost_micro_usd * 2  # $1 = 2,000,000 credits
    body |= {
        "prompt": prompt,
        "data": images,
        "meta": {
            "usage": {
                "credits_used": credits_used,
                "usd_spent": answer.cost_micro_usd / 1_000_000,
                "tokens_used": credits_used,
            }
        },
    }
    return msgspec.json.encode(body)
