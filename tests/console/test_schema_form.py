"""The playground's form: every parameter of a model has a field, and comes back typed as the schema wants it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.schemas_images import with_openai_names
from gateway.config import Settings
from gateway.console.schema_form import form_fields, read_parameters
from gateway.errors import InvalidRequest
from gateway.resources import served_models

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "model": {"const": "m"},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
        "prompt": {"type": "string", "maxLength": 4000},
        "seed": {"type": "integer"},
        "tiled": {"type": "boolean"},
        "style": {"type": "string", "enum": ["photo", "ink"], "default": "ink"},
        "level": {"enum": [1, 2, 3]},
        "size": {"type": "string"},
        "image_size": {"anyOf": [{"type": "object"}, {"type": "string", "enum": ["square"]}], "default": "square"},
        "note": {"type": ["string", "null"]},
    },
}


def test_fields_by_kind_the_required_first_then_the_seed():
    fields = form_fields(SCHEMA, {"prompt": "A fox"})
    kinds = {field.name: field.kind for field in fields}
    assert [field.name for field in fields[:2]] == ["prompt", "seed"]
    assert kinds == {
        "prompt": "long",
        "seed": "whole",
        "strength": "number",
        "tiled": "flag",
        "style": "choice",
        "level": "choice",
        "image_size": "choice",
        "note": "text",
    }
    assert fields[0].value == "A fox"
    assert next(field for field in fields if field.name == "style").default == "ink"


def test_what_is_left_empty_is_absent_and_the_rest_is_typed():
    form = {
        "prompt": "A\r\nfox ",
        "seed": "7",
        "strength": "0.5",
        "tiled": "true",
        "level": "2",
        "style": "",
        "note": " ",
    }
    assert read_parameters(SCHEMA, form) == {"prompt": "A\nfox ", "seed": 7, "strength": 0.5, "tiled": True, "level": 2}


@pytest.mark.parametrize("seed", ["seven", "1.", "0x10", "--1", "NaN", "Infinity", "1e999", "true", "[1]", "null"])
def test_what_is_no_number_is_refused_by_name(seed: str):
    with pytest.raises(InvalidRequest, match=r"seed: .* is not a number"):
        read_parameters(SCHEMA, {"prompt": "A fox", "seed": seed})


def test_every_parameter_of_the_served_models_has_a_field():
    for model in served_models(Settings()).values():
        schema = with_openai_names(model)
        hidden = {"model", "n", "size", "response_format", "stream", "user"}
        assert {field.name for field in form_fields(schema, {})} == set(schema["properties"]) - hidden
