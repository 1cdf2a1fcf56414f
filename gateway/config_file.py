"""Reading a YAML file of settings: with the line of every key, and with `${...}` filled in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.config_references import filled_in
from gateway.errors import ConfigurationError

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class ConfigFile:
    """What a file says, and the line on which it says it."""

    path: Path | None
    data: dict[str, Any]
    lines: dict[Location, int]

    @classmethod
    def empty(cls) -> ConfigFile:
        return cls(None, {}, {})

    def where(self, location: Location) -> str:
        """ "config.yaml:12: " for a setting, its nearest parent's line if it is absent, "" without a file."""
        if self.path is None:
            return ""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.path}:{self.lines[location[:length]]}: "
        return f"{self.path}: "


def read_config_file(path: Path) -> ConfigFile:
    """Raises ConfigurationError for a missing file, one that is not YAML, a reference that leads nowhere."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as exc:
        raise ConfigurationError(f"{path}: can't be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from exc
    except yaml.YAMLError as exc:
        raise ConfigurationError(f"{path}:{_yaml_mistake(exc)}") from None
    if root is None:
        return ConfigFile(path, {}, {})
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{path}: the top level must be `name: value` lines")
    lines: dict[Location, int] = {}
    try:
        data = _Builder(path, lines).build(root, ())
    except RecursionError:
        raise ConfigurationError(f"{path}: an alias holds itself") from None
    return ConfigFile(path, data, lines)


def _yaml_mistake(exc: yaml.YAMLError) -> str:
    """Line and problem. PyYAML's own text also quotes the line, which may hold a secret."""
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark is not None:
        return f"{exc.problem_mark.line + 1}: is not YAML: {exc.problem}"
    return f" is not YAML: {str(exc).splitlines()[0]}"


class _Builder:
    """Turns YAML's node tree into data, noting lines on the way."""

    def __init__(self, path: Path, lines: dict[Location, int]) -> None:
        self._path = path
        self._lines = lines
        self._scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, location: Location) -> Any:
        self._lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*location, index)) for index, item in enumerate(node.value)]
        value = self._scalar(node)
        return self._expanded(value, location) if isinstance(value, str) else value

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._scalars.construct_object(node)
        except yaml.MarkedYAMLError as exc:
            raise ConfigurationError(f"{self._path}:{_yaml_mistake(exc)}") from None
        except ValueError as exc:  # a date that is none
            raise ConfigurationError(f"{self._path}:{node.start_mark.line + 1}: {exc}") from None

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            inner = (*location, key)
            if key in data:
                line = key_node.start_mark.line + 1
                name = ".".join(map(str, inner))
                raise ConfigurationError(f"{self._path}:{line}: {name} stands there twice")
            self._lines[inner] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, inner)
        return data

    def _expanded(self, text: str, location: Location) -> str:
        try:
            return filled_in(text)
        except ValueError as exc:
            line = self._lines.get(location, 1)
            raise ConfigurationError(f"{self._path}:{line}: {'.'.join(map(str, location))}: {exc}") from None
