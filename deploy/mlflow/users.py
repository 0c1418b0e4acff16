"""Make the users of the MLflow server, each with the rights it needs; run again, only passwords change.

Set up by MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (the
administrator's), MLFLOW_PIPELINE_PASSWORD and MLFLOW_SERVE_PASSWORD.
"""

import os

from mlflow.exceptions import RestException
from mlflow.server import get_app_client
from mlflow.server.auth.client import AuthServiceClient

WORKSPACE = "default"
# The pipeline may make experiments and models, and what it makes is its own. The service only reads.
ROLES = {
    "pipeline": {"workspace": "USE", "experiment": "EDIT", "registered_model": "EDIT"},
    "serve": {"experiment": "READ", "registered_model": "READ"},
}


def make_user(client: AuthServiceClient, name: str, password: str) -> None:
    try:
        client.get_user(name)
    except RestException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_user(name, password)
    else:
        client.update_user_password(name, password)


def make_role(client: AuthServiceClient, name: str, permissions: dict[str, str]) -> None:
    """Give the user `name` a role of the same name, unless there is one."""
    if any(role.name == name for role in client.list_roles(WORKSPACE)):
        return
    role = client.create_role(WORKSPACE, name)
    for resource, permission in permissions.items():
        client.add_role_permission(role.id, resource, "*", permission)
    client.assign_role(name, role.id)


def main() -> None:
    client = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    for name, permissions in ROLES.items():
        make_user(client, name, os.environ[f"MLFLOW_{name.upper()}_PASSWORD"])
        make_role(client, name, permissions)


if __name__ == "__main__":
    main()
