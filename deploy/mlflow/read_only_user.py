"""How the MLflow server authenticates: by password, and the service's user may only read (basic_auth.ini).

MLflow's roles do not restrict creation: every user may create experiments, models and demo data, and owns them.
"""

from flask import Response, make_response, request
from mlflow.server.auth import authenticate_request_basic_auth
from werkzeug.datastructures import Authorization

READER = "serve"
READS = {"GET", "HEAD"}


def authenticate() -> Authorization | Response:
    """The user of the request, or the response that refuses it."""
    result: Authorization | Response = authenticate_request_basic_auth()
    if (
        isinstance(result, Authorization)
        and result.username == READER
        and request.method not in READS
    ):
        return make_response(f"The user {READER} may only read: expected GET or HEAD.", 403)
    return result
