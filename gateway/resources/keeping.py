"""What the database may keep of a request, by `privacy.store_prompts`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from gateway.domain.image_request import ImageRequest


def not_kept(_words: str) -> str:
    return "(not kept: privacy.store_prompts)"


def keeper(how: str, pepper: bytes) -> Callable[[ImageRequest], dict[str, Any]]:
    """What the database may keep of a request, by `privacy.store_prompts`."""

    def keep(request: ImageRequest) -> dict[str, Any]:
        name = request.model.roles.prompt
        if how == "full":
            return dict(request.parameters)
        kept = {key: value for key, value in request.parameters.items() if key != name}
        if how == "hash":
            kept[f"{name}_hash"] = hmac.digest(pepper, request.prompt.encode(), hashlib.sha256).hex()
        return kept

    return keep
