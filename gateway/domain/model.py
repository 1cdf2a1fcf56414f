"""An entry of the catalogue: what a model takes, what it costs, whether a seed pins its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema_rs
import msgspec

from gateway.domain.pricing import PriceRule, parse_price
from gateway.errors import ConfigurationError


class Roles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which native parameter plays which part. `seed` and `size` may be absent from a model."""

    prompt: str
    count: str
    format: str
    size: str | None = None
    seed: str | None = None


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of a file in `catalog/`. `parameters` is a JSON Schema whose defaults are filled in and sent."""

    name: str
    description: str
    provider: str
    upstream_model: str
    version: str
    deterministic: bool
    roles: Roles
    parameters: dict[str, Any]
    price: dict[str, str] | None = None
    sizes: dict[str, dict[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Model:
    """A model as served: the catalogue's facts under a public name, with the configured provider, price and version."""

    name: str
    description: str
    provider: str
    upstream_model: str
    version: str
    deterministic: bool
    roles: Roles
    price: PriceRule
    sizes: Mapping[str, Mapping[str, int]]
    parameters: Mapping[str, Any]
    validator: Any = field(repr=False, compare=False)

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        properties: Mapping[str, Mapping[str, Any]] = self.parameters["properties"]
        return properties

    def served_as(self, *, name: str, provider: str | None, price: PriceRule | None, version: str | None) -> Model:
        """This model under another public name, provider, price or version."""
        parameters = {**self.parameters, "properties": {**self.properties}}
        parameters["properties"]["model"] = {**self.properties["model"], "const": name}
        return replace(
            self,
            name=name,
            provider=provider or self.provider,
            price=price or self.price,
            version=version or self.version,
            parameters=parameters,
            validator=jsonschema_rs.Draft202012Validator(parameters),
        )


def parse_model(data: bytes, *, source: str, price: dict[str, str] | None = None) -> Model:
    """A catalogue file as a model. `price` replaces the file's. Raises ConfigurationError naming the file."""
    try:
        file = msgspec.json.decode(data, type=ModelFile)
        validator = jsonschema_rs.Draft202012Validator(file.parameters)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise ConfigurationError(f"catalogue: {source}: {exc}") from exc
    return Model(
        name=file.name,
        description=file.description,
        provider=file.provider,
        upstream_model=file.upstream_model,
        version=file.version,
        deterministic=file.deterministic and file.roles.seed is not None,
        roles=file.roles,
        price=parse_price(price or file.price, model=file.name),
        sizes=file.sizes,
        parameters=file.parameters,
        validator=validator,
    )
