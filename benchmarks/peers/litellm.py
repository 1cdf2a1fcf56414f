"""LiteLLM's proxy: forced to cache pictures, without a cache, and with a budget."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from benchmarks.calls import MODEL
from benchmarks.peers.peer import Peer
from benchmarks.peers.work import BENCH
from benchmarks.servers import PROVIDER_KEY
from tests.support.ports import free_port

_HOME = BENCH / "litellm"
_KEY = "sk-of-the-benchmarks"
_ENVIRONMENT = {
    # The lists that it ships with, not ones fetched at the start.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # As its guide for production says: no .env file, and no line for each request.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
}
CACHED: dict[str, Any] = {
    "cache": True,
    # In its own memory: faster than Redis. Pictures are not among the kinds of call that it caches unless they are
    # named here; the two names are the function's, synchronous and not.
    "cache_params": {"type": "local", "supported_call_types": ["image_generation", "aimage_generation"]},
    # Without it the key leaves out `image_size`, `num_images` and `num_inference_steps`, among others, and a call for
    # another size gets the same picture. It has the prompt, the seed, `n` and `output_format` either way.
    "enable_caching_on_provider_specific_optional_params": True,
}
PLAIN: dict[str, Any] = {}


def litellm(folder: Path, provider_url: str, settings: dict[str, Any], *, budget_usd: float | None = None) -> Peer:
    """One worker. Its callers send the master key: the only one without a database, and the cheapest to check.

    `budget_usd` a day, on the deployment: the kind of budget it has without a database.
    """
    folder.mkdir()
    port = free_port()
    deployment: dict[str, Any] = {
        "model": f"openai/{MODEL}",
        "api_base": f"{provider_url}/v1",
        "api_key": PROVIDER_KEY,
    }
    if budget_usd is not None:
        deployment |= {"max_budget": budget_usd, "budget_duration": "1d"}
    info = {"mode": "image_generation", "input_cost_per_image": 0.065}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": deployment, "model_info": info}],
        "general_settings": {"master_key": _KEY},
        "litellm_settings": {"telemetry": False, **settings},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    address = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    command = [str(_HOME / "bin" / "litellm"), "--config", str(file), *address]
    return Peer(
        "LiteLLM",
        command,
        port=port,
        ready_path="/health/liveliness",
        log=folder / "log",
        key=_KEY,
        environment=_ENVIRONMENT,
    )


def version() -> str:
    asked = "import importlib.metadata as m; print(m.version('litellm'))"
    python = [str(_HOME / "bin" / "python"), "-c", asked]
    return subprocess.run(python, capture_output=True, text=True, check=True).stdout.strip()
