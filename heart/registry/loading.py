"""Load the version that HEART_MODEL names, with the same checks as in the service."""

from heart.registry import signing
from heart.registry.aliases import SHA256
from heart.registry.cache import Cache
from heart.registry.errors import CacheUnwritable, RegistryUnavailable, VersionRejected
from heart.registry.model_version import ONNX, Model, check_hash, read_files
from heart.registry.resolver import Registry
from heart.settings import MODEL, SharedSettings


def load(settings: SharedSettings) -> tuple[Model, bytes]:
    """The version that HEART_MODEL names, and its ONNX file. Raises VersionRejected, RegistryUnavailable."""
    registry = Registry(settings.tracking_uri, settings.model)
    cache = Cache(
        settings.cache_dir,
        settings.model,
        signatures=signing.Signatures(settings.signing_public_keys, settings.minimum_version),
    )
    version = registry.resolve()
    if not version.sha256:
        raise VersionRejected("hash", f"its tag {SHA256} is not a SHA-256")
    try:
        model = cache.load(version) or cache.keep(version, registry)
    except CacheUnwritable as error:
        raise RegistryUnavailable(str(error)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise RegistryUnavailable(
            f"HEART_CACHE_DIR: {settings.cache_dir}: {reason}, expected a readable folder"
        ) from error
    files = read_files(cache.folder(version.name, version.number, version.sha256))
    check_hash(files, ONNX, version.sha256)
    return model, files[ONNX]


def of_version(settings: SharedSettings, number: str) -> SharedSettings:
    """The settings with another version of the same model."""
    parts = MODEL.fullmatch(settings.model)
    assert parts  # the settings checked it
    return settings.model_copy(update={"model": f"models:/{parts['name']}/{number}"})
