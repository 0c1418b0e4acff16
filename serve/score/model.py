"""The model to score with, from the registry, by the same checks as the service."""

from aliases import SHA256
from serve.cache import Cache
from serve.errors import Refused, Unavailable
from serve.registry import Registry
from serve.settings import Settings
from serve.versions import ONNX, Model, checked


def load(settings: Settings) -> tuple[Model, bytes]:
    """The version that HEART_MODEL means now, and its ONNX file. Raises Refused, Unavailable."""
    registry = Registry(settings.tracking_uri, settings.model)
    cache = Cache(settings.cache_dir, settings.model)
    version = registry.resolve()
    if not version.sha256:
        raise Refused("hash", f"its tag {SHA256} is no SHA-256")
    try:
        model = cache.load(version) or cache.keep(version, registry)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(
            f"HEART_CACHE_DIR: {settings.cache_dir}: {reason}, expected a folder to write to"
        ) from error
    folder = cache.folder(version.name, version.number, version.sha256)
    return model, checked(folder / ONNX, version.sha256)
