"""Darkroom: a self-hosted caching gateway for image-generation APIs."""

__version__ = "0.1.0"
