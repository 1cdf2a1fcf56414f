"""A caller's body, parsed, validated against the model's JSON Schema, and brought into its canonical form.

Canonical: native names, defaults filled in, named sizes as pixels, whole numbers as integers, the prompt untouched.
The upstream body is made of the canonical form alone, and the fingerprint covers all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gateway.domain.issues import Issue, invalid_payload, issues_of
from gateway.domain.model import Model
from gateway.domain.pricing import PriceRule, megapixels
from gateway.errors import InvalidRequest, ModelNotFound

ResponseFormat = Literal["url", "b64_json"]

# Understood, but no part of the canonical form: the same picture answers whatever they say.
FIELDS_THAT_DO_NOT_MATTER = frozenset({"model", "response_format", "stream", "user"})

_NO_STREAM = "Leave it out: pictures are not streamed, they come whole in one answer"
_PIXELS = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_EXACT_FLOAT = 2.0**53
_SHOWN = 40

_decode = msgspec.json.Decoder().decode


class ImageRequest(msgspec.Struct, frozen=True):
    """A valid request. `parameters` is the canonical form without the model, shared by equal requests: not to be
    changed. `user` is OpenAI's end-user tag."""

    model: Model
    parameters: dict[str, Any]
    response_format: ResponseFormat
    user: str | None

    @property
    def prompt(self) -> str:
        prompt: str = self.parameters[self.model.roles.prompt]
        return prompt

    @property
    def images(self) -> int:
        count: int = self.parameters[self.model.roles.count]
        return count

    @property
    def seeded(self) -> bool:
        return self.model.roles.seed is not None and self.model.roles.seed in self.parameters

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; (0, 0) for a model whose size is not asked for."""
        size = self.parameters.get(self.model.roles.size or "")
        return (size["width"], size["height"]) if isinstance(size, dict) else (0, 0)

    @property
    def megapixels(self) -> int:
        width, height = self.size
        return megapixels(images=self.images, width=width, height=height)

    def cost(self, rule: PriceRule) -> int:
        """What the rule asks for this request, in micro-dollars."""
        width, height = self.size
        return rule.cost(images=self.images, width=width, height=height)


def decode_body(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises InvalidRequest for anything else: broken JSON, NaN, surrogates, depth."""
    try:
        data = _decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply to be a request.") from None
    except (msgspec.MsgspecError, ValueError) as exc:
        raise InvalidRequest(
            f"The body is not valid JSON in UTF-8: {exc}. Numbers must be finite, surrogates paired."
        ) from exc
    if not isinstance(data, dict):
        raise invalid_payload([Issue((), "invalid_type", "Expected a JSON object", {"expected": "object"}, data)])
    return data


def sent_wrong(content_type: str | None, content_encoding: str | None) -> InvalidRequest | None:
    """What is wrong with a body that is no JSON, if its headers say so."""
    if content_encoding is not None and content_encoding.lower() != "identity":
        return InvalidRequest(
            f"The body came with `Content-Encoding: {content_encoding[:_SHOWN]}`, and compressed bodies are not read "
            "here: send the JSON as it is, without this header.",
            param="Content-Encoding",
        )
    if content_type is not None and content_type.lower().startswith("multipart/"):
        kind = content_type.partition(";")[0]
        return InvalidRequest(
            f"The body came with `Content-Type: {kind[:_SHOWN]}`, and forms are not read here: send a JSON object, "
            "with `Content-Type: application/json`.",
            param="Content-Type",
        )
    return None


def model_of(data: Mapping[str, Any], models: Mapping[str, Model]) -> Model:
    """The model the body names. Raises InvalidRequest when it names none, ModelNotFound for one not served."""
    name = data.get("model")
    if not isinstance(name, str):
        said = "Required" if "model" not in data else "Expected a string"
        raise invalid_payload([Issue(("model",), "invalid_type", said, {"expected": "string"}, name)])
    model = models.get(name)
    if model is None:
        known = ", ".join(sorted(models))
        raise ModelNotFound(f"There is no model {name[:100]!r} here; there is: {known}.", param="model")
    return model


def parse_request(data: Mapping[str, Any], model: Model) -> ImageRequest:
    """Validate a decoded body and bring it into canonical form. Unknown keys are ignored, as the provider does.

    Raises InvalidRequest with every issue found.
    """
    native, aliases = _native(data, model)
    if not model.validator.is_valid(native):
        raise invalid_payload(issues_of(model.validator, native, aliases))
    response_format, user = _openai_fields(data)
    return ImageRequest(model, _canonical(native, model), response_format, user)


def _native(data: Mapping[str, Any], model: Model) -> tuple[dict[str, Any], dict[str, str]]:
    """The known parameters under native names, and which of them came under an OpenAI name (native -> alias)."""
    native = {name: data[name] for name in model.properties if name in data}
    roles, aliases = model.roles, {}
    if "n" in data and roles.count not in data:
        native[roles.count] = data["n"]
        aliases[roles.count] = "n"
    if roles.size and roles.size not in data and data.get("size", "auto") != "auto":
        native[roles.size] = _pixels(data["size"])
        aliases[roles.size] = "size"
    return native, aliases


def _pixels(size: Any) -> dict[str, int]:
    """OpenAI's "WxH". Raises InvalidRequest."""
    match = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        said = 'Expected "WIDTHxHEIGHT" in pixels, like "1024x768", or "auto"'
        raise invalid_payload([Issue(("size",), "invalid_string", said, {"validation": "WxH"}, size)])
    return {"width": int(match[1]), "height": int(match[2])}


def _openai_fields(data: Mapping[str, Any]) -> tuple[ResponseFormat, str | None]:
    response_format = data.get("response_format", "url")
    user = data.get("user", "")
    issues = []
    if response_format not in ("url", "b64_json"):
        options = ["url", "b64_json"]
        issues.append(
            Issue(
                ("response_format",),
                "invalid_enum_value",
                "Expected 'url' or 'b64_json'",
                {"options": options},
                response_format,
            )
        )
    if not isinstance(user, str):
        issues.append(Issue(("user",), "invalid_type", "Expected a string", {"expected": "string"}, user))
    stream = data.get("stream")
    if stream is not None and stream is not False:
        issues.append(Issue(("stream",), "invalid_literal", _NO_STREAM, {"expected": False}, stream))
    if issues:
        raise invalid_payload(issues)
    return response_format, user or None


def _canonical(native: dict[str, Any], model: Model) -> dict[str, Any]:
    roles = model.roles
    canonical: dict[str, Any] = {}
    for name, schema in model.properties.items():
        if name in FIELDS_THAT_DO_NOT_MATTER:
            continue
        value = native.get(name, schema.get("default"))
        if value is None:
            continue
        if name == roles.size:
            canonical[name] = _size_in_pixels(value, model)
        else:
            canonical[name] = _whole(value, name) if type(value) is float else value
    return canonical


def _size_in_pixels(value: Any, model: Model) -> dict[str, int]:
    if isinstance(value, str):
        return dict(model.sizes[value])
    objects = (s for s in model.properties[model.roles.size or ""]["anyOf"] if s["type"] == "object")
    sides = next(objects)["properties"]
    return {side: int(value.get(side, schema["default"])) for side, schema in sides.items()}


def _whole(value: float, name: str) -> int | float:
    """5.0 is 5. From 2^53 on a float has lost digits: a seed written so might not be the one meant."""
    if not value.is_integer():
        return value
    if value >= _EXACT_FLOAT:
        said = "Write a number this large as a plain integer, without a point or an exponent"
        raise invalid_payload([Issue((name,), "invalid_type", said, {"expected": "integer"}, value)])
    return int(value)
