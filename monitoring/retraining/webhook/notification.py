"""What Grafana's webhook sends, and how to know that it was Grafana."""

import hashlib
import hmac
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.types import Scope

from heart.http.messages import header

# As the contact point `retraining` names them, in the lower case of ASGI.
SIGNATURE = b"x-grafana-alerting-signature"
TIMESTAMP = b"x-grafana-alerting-timestamp"
CLOCK_SKEW_SECONDS = 300

FEATURE = re.compile(r"[a-z_]{1,40}")
VERSION = re.compile(r"[0-9]{1,9}")

Key = tuple[str, str]  # of an alert: its group's, and when it started


# Only the first error is told, so that validation stops there: a body can hold a hundred thousand.


class Alert(BaseModel):
    """One alert of a notification; what else Grafana says of it is not needed."""

    model_config = ConfigDict(strict=True)

    status: str
    starts_at: str = Field(alias="startsAt", min_length=1, max_length=64)
    labels: Annotated[dict[str, str], FailFast()] = {}


class Notification(BaseModel):
    """All alerts of one group at one moment."""

    model_config = ConfigDict(strict=True)

    group_key: str = Field(alias="groupKey", min_length=1, max_length=4096)
    alerts: Annotated[list[Alert], FailFast()]

    @property
    def firing(self) -> list[Alert]:
        """The alerts that are not over."""
        return [alert for alert in self.alerts if alert.status == "firing"]

    @property
    def keys(self) -> list[Key]:
        """What tells the firing alerts from all others."""
        return [(self.group_key, alert.starts_at) for alert in self.firing]

    @property
    def trigger(self) -> str:
        """Why a retraining is started: names of features and numbers of versions, nothing else."""
        features = self._labels("feature", FEATURE)
        versions = self._labels("model_version", VERSION)
        told = [
            ", ".join(features) or "an alert",
            *([f"of model version {', '.join(versions)}"] if versions else []),
        ]
        return f"drift: {' '.join(told)}"

    def _labels(self, name: str, form: re.Pattern[str]) -> list[str]:
        values = [alert.labels.get(name, "") for alert in self.firing]
        return list(dict.fromkeys(value for value in values if form.fullmatch(value)))[:20]


def signed(scope: Scope, body: bytes, secret: str, now: float) -> bool:
    """Whether a request has the signature of its time stamp and body, and was made just now."""
    timestamp = header(scope, TIMESTAMP)
    message = timestamp + b":" + body
    expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode()
    genuine = hmac.compare_digest(header(scope, SIGNATURE), expected)
    recent = re.fullmatch(rb"[0-9]{1,12}", timestamp) and (
        abs(now - int(timestamp)) <= CLOCK_SKEW_SECONDS
    )
    return genuine and bool(recent)


def what_is_wrong(error: ValidationError) -> tuple[int, str]:
    """The status and the words with which to refuse a body: its places, and nothing of its content."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return 400, "the body is no JSON"
    place = ".".join(map(str, problems[0]["loc"]))
    return 422, f"{place or 'body'}: {problems[0]['msg']}"
