"""The models as data files. A new model is a new file: no code."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.model import Model, parse_model
from gateway.errors import ConfigurationError

SHIPPED = Path(__file__).parent


def load_catalog(extra: Path | None = None) -> dict[str, Model]:
    """Every model of the shipped folder, and of `extra` over it, by name."""
    files = sorted(SHIPPED.glob("*.json"))
    if extra is not None:
        if not extra.is_dir():
            raise ConfigurationError(f"catalog_dir: {extra} is not a folder")
        files += sorted(extra.glob("*.json"))
    models = (parse_model(file.read_bytes(), source=str(file)) for file in files)
    return {model.name: model for model in models}
