"""Exit code 0 if the MLflow server answers its administrator, asked by the name that clients use."""

import base64
import os
import urllib.request

URL = "http://mlflow:5000/api/2.0/mlflow/registered-models/search?max_results=1"

user, password = (os.environ[f"MLFLOW_AUTH_ADMIN_{name}"] for name in ("USERNAME", "PASSWORD"))
token = base64.b64encode(f"{user}:{password}".encode()).decode()
request = urllib.request.Request(URL, headers={"Authorization": f"Basic {token}"})
urllib.request.urlopen(request, timeout=8)
