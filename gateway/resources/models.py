"""The catalogue as configured."""

from __future__ import annotations

from gateway.catalog import load_catalog
from gateway.config import Settings
from gateway.domain.model import Model
from gateway.domain.pricing import parse_price
from gateway.errors import ConfigurationError


def served_models(settings: Settings) -> dict[str, Model]:
    """The catalogue as configured. Raises ConfigurationError for a model without an entry, a price or a provider."""
    catalog = load_catalog(settings.catalog_dir)
    served = dict(catalog) if not settings.models else {}
    for chosen in settings.models:
        entry = catalog.get(chosen.catalog or chosen.name)
        if entry is None:
            known = ", ".join(sorted(catalog))
            raise ConfigurationError(
                f"models: {chosen.catalog or chosen.name} is not in the catalogue, which has: {known}. "
                "Name one of these in `catalog:`, or add a file to catalog_dir."
            )
        price = None if chosen.price is None else parse_price(chosen.price, model=chosen.name)
        served[chosen.name] = entry.served_as(
            name=chosen.name, provider=chosen.provider, price=price, version=chosen.version
        )
    providers = {provider.name for provider in settings.providers}
    for model in served.values():
        if model.provider not in providers:
            raise ConfigurationError(
                f"models: {model.name} is served by the provider {model.provider}, which is not among "
                f"providers: {', '.join(sorted(providers)) or 'none'}. Set `provider:` of the model."
            )
    return served
