"""The notifications of Grafana's webhook, and the check of their signature."""

import hashlib
import hmac
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError
from starlette.types import Scope

from heart.http.messages import header

# The names in the contact point `retraining`, in the lower case of ASGI.
SIGNATURE = b"x-grafana-alerting-signature"
TIMESTAMP = b"x-grafana-alerting-timestamp"
CLOCK_SKEW_SECONDS = 300

# The titles of the rules on drift in grafana/provisioning/alerting/rules.yml.
DRIFT_ALERTS = ("Feature drift", "Score drift")
# Grafana's annotation for a state that no value of the query explains, such as "Error, KeepLast".
STATE_REASON = "grafana_state_reason"

FEATURE = re.compile(r"[a-z_]{1,40}")
VERSION = re.compile(r"[0-9]{1,9}")

Key = tuple[str, str]  # of an alert: the key of its group, and its start


def _empty_if_null(value: Any) -> Any:
    """Grafana sends null for the values of an alert that has none."""
    return {} if value is None else value


# Only the first error is reported, so that validation stops there: a body can have a hundred thousand.


class Alert(BaseModel):
    """One alert of a notification; its other fields are not used."""

    model_config = ConfigDict(strict=True)

    status: str
    starts_at: str = Field(alias="startsAt", min_length=1, max_length=64)
    labels: Annotated[dict[str, str], FailFast()] = {}
    annotations: Annotated[dict[str, str], FailFast(), BeforeValidator(_empty_if_null)] = {}
    values: Annotated[dict[str, float], FailFast(), BeforeValidator(_empty_if_null)] = {}

    @property
    def is_measured(self) -> bool:
        """Whether the last evaluation of the rule had a value.

        While Prometheus cannot be asked, an alert goes on firing with a reason and without values.
        """
        return bool(self.values) and not self.annotations.get(STATE_REASON)

    @property
    def is_drift(self) -> bool:
        """Whether one of the rules on drift fires, because of what it measured.

        The button "Test" of a contact point sends a firing alert too, with labels that its user may add
        or change, but always with `instance`, which an alert on drift does not have.
        """
        labels = self.labels
        return (
            self.status == "firing"
            and self.is_measured
            and labels.get("route") == "drift"
            and labels.get("alertname") in DRIFT_ALERTS
            and "instance" not in labels
        )


class Notification(BaseModel):
    """All alerts of one group at one moment."""

    model_config = ConfigDict(strict=True)

    group_key: str = Field(alias="groupKey", min_length=1, max_length=4096)
    alerts: Annotated[list[Alert], FailFast()]

    @property
    def drift(self) -> list[Alert]:
        """The alerts on drift that were measured and have not ended."""
        return [alert for alert in self.alerts if alert.is_drift]

    @property
    def keys(self) -> list[Key]:
        """The keys that identify the alerts on drift."""
        return [(self.group_key, alert.starts_at) for alert in self.drift]

    @property
    def trigger(self) -> str:
        """The reason of a retraining: names of features and numbers of versions, nothing else."""
        features = self._labels("feature", FEATURE)
        versions = self._labels("model_version", VERSION)
        model = f" of model version {', '.join(versions)}" if versions else ""
        return f"drift: {', '.join(features) or 'an alert'}{model}"

    def _labels(self, name: str, form: re.Pattern[str]) -> list[str]:
        values = [alert.labels.get(name, "") for alert in self.drift]
        return list(dict.fromkeys(value for value in values if form.fullmatch(value)))[:20]


def signed(scope: Scope, body: bytes, secret: str, now: float) -> bool:
    """Whether a request has the signature of its time stamp and body, and a recent time stamp."""
    timestamp = header(scope, TIMESTAMP)
    message = timestamp + b":" + body
    expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode()
    genuine = hmac.compare_digest(header(scope, SIGNATURE), expected)
    recent = re.fullmatch(rb"[0-9]{1,12}", timestamp) and (
        abs(now - int(timestamp)) <= CLOCK_SKEW_SECONDS
    )
    return genuine and bool(recent)


def validation_failure(error: ValidationError) -> tuple[str, str]:
    """The type and the message for an invalid body: the place of the error, without its content."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return "bad-request", problems[0]["msg"].replace("Invalid JSON", "the body is not JSON")
    place = ".".join(map(str, problems[0]["loc"]))
    return "invalid-request", f"{place or 'body'}: {problems[0]['msg']}"
