"""`${NAME}` reads the environment and `${file:PATH}` a file, in any text of the settings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"\$\{(file:)?([^}]*)\}")


def filled_in(text: str) -> str:
    """Raises ValueError that says which reference leads nowhere."""
    return _REFERENCE.sub(_value_of, text)


def filled_in_throughout(value: Any) -> Any:
    """The same for every text in what JSON can say; names of fields stay as they are."""
    if isinstance(value, str):
        return filled_in(value)
    if isinstance(value, list):
        return [filled_in_throughout(item) for item in value]
    if isinstance(value, dict):
        return {name: filled_in_throughout(inner) for name, inner in value.items()}
    return value


def _value_of(match: re.Match[str]) -> str:
    kind, name = match.groups()
    found = _file_text(name) if kind else os.environ.get(name, "")
    if not found:
        raise ValueError(
            f"the file {name} is missing, empty or not text" if kind else f"the variable {name} is not set"
        )
    return found


def _file_text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
