"""The image store of the settings. obstore is imported when pictures live in a bucket, and not before."""

from __future__ import annotations

from gateway.config import Settings
from gateway.storage.images import ImageStore, LocalImageStore


def open_image_store(settings: Settings) -> ImageStore:
    """Nothing is asked of it yet."""
    chosen = settings.image_store
    if chosen.bucket is None:
        return LocalImageStore(chosen.path or settings.data_dir / "images")
    from gateway.storage.images_s3 import S3ImageStore  # noqa: PLC0415
    from gateway.storage.s3_bucket import open_bucket  # noqa: PLC0415

    key_id, secret = chosen.access_key_id, chosen.secret_access_key
    bucket = open_bucket(
        chosen.bucket,
        prefix=chosen.prefix,
        endpoint_url=chosen.endpoint_url,
        region=chosen.region,
        credentials=(key_id.get_secret_value(), secret.get_secret_value()) if key_id and secret else None,
    )
    at = f" at {chosen.endpoint_url}" if chosen.endpoint_url else ""
    return S3ImageStore(bucket, place=f"the bucket {chosen.bucket}{at}", redirects=chosen.serve == "redirect")
