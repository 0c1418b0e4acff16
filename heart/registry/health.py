"""Whether the server of a registry responds at all.

MLflow waits for each response, and tries again: a program without a server would show nothing for up to a minute,
then quote objects of its HTTP library.
"""

from heart.addresses import server_of
from heart.errors import UserError, network_reason, store_reason
from heart.sqlite_path import SQLITE

CONNECT_SECONDS, RESPONSE_SECONDS = 3, 5
SETTINGS = "HEART_TRACKING_URI or MLFLOW_TRACKING_URI"


def require_response(uri: str, name: str) -> None:
    """Raises UserError unless a server responds within seconds; `name` is that of the setting of its URI.

    Any response of a web server will do, so that it may be another one than MLflow's. Files are not checked.
    """
    reason = None
    if uri.startswith(("http://", "https://")):
        reason = _fault_of_server(uri)
    elif uri.startswith(("postgresql", "mysql")):
        reason = _fault_of_database(uri)
    if reason:
        raise UserError(
            f"the registry {server_of(uri)} does not answer ({name}): {reason}; start it, or correct {name}"
        )


def _fault_of_server(uri: str) -> str | None:
    import requests

    limits = CONNECT_SECONDS, RESPONSE_SECONDS
    try:
        requests.get(
            f"{uri.rstrip('/')}/health", timeout=limits, stream=True, allow_redirects=False
        ).close()
    except requests.exceptions.SSLError:
        return None  # it responds; MLflow has settings for its certificate
    except requests.RequestException as error:
        return network_reason(error)
    return None


def _fault_of_database(uri: str) -> str | None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        engine = create_engine(
            uri, poolclass=NullPool, connect_args={"connect_timeout": RESPONSE_SECONDS}
        )
        with engine.connect():
            return None
    except ImportError as error:
        return f"{error}: name an installed driver, as in postgresql+psycopg://"
    except SQLAlchemyError as error:
        return store_reason(error)


def unavailable(uri: str, error: Exception) -> str:
    """The message of an error of a registry, which may be without its place."""
    place, message = server_of(uri).removeprefix(SQLITE), str(error)
    named = place in message or message.startswith("HEART_")  # the cache has a setting of its own
    return message if named else f"the registry {place}: {message}"
