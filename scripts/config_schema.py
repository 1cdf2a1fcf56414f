#!/usr/bin/env python3
"""Writes config.schema.json, by which editors check and complete config.yaml."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.config import Settings

TARGET = Path(__file__).parents[1] / "config.schema.json"


def schema_text() -> str:
    """The schema of a configuration file, as it is committed."""
    schema = Settings.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Darkroom"}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    TARGET.write_text(schema_text(), encoding="utf-8")
