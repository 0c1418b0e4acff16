"""Whether the server of a registry responds at all.

MLflow waits for each response, and tries again: a program with a silent server would show nothing for half a
minute, then quote objects of its HTTP library.
"""

from heart.errors import UserError, network_reason, without_password

CONNECT_SECONDS, RESPONSE_SECONDS = 3, 5
SETTINGS = "HEART_TRACKING_URI or MLFLOW_TRACKING_URI"


def require_response(uri: str, name: str) -> None:
    """Raises UserError unless a server responds within seconds; `name` is that of the setting of its URI.

    Any response will do, so that it may be another server than MLflow's. A database is not asked.
    """
    if not uri.startswith(("http://", "https://")):
        return
    import requests

    limits = CONNECT_SECONDS, RESPONSE_SECONDS
    try:
        requests.get(
            f"{uri.rstrip('/')}/health", timeout=limits, stream=True, allow_redirects=False
        ).close()
    except requests.exceptions.SSLError:
        return  # it responds; MLflow has settings for its certificate
    except requests.RequestException as error:
        raise UserError(
            f"the registry {without_password(uri)} does not answer ({name}): {network_reason(error)}; start "
            f"it, or correct {name}"
        ) from error
