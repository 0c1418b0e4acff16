"""Settings of the service: environment variables HEART_... or a file .env (see .env.example)."""

from datetime import date
from typing import Annotated, ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from heart.drift.baseline import MIN_CELL_COUNT
from heart.http.hosts import HostNames
from heart.http.sub_path import RootPath
from heart.http.tokens import DEFAULT, SCOPES, Token, Tokens, check, parse
from heart.log_format import Form
from heart.settings import SharedSettings
from serve.addresses import KeySource, Origins, ServiceUrl, Words, is_loopback

MAX_BATCH = 10_000  # patients in one request

Count = Annotated[int, Field(ge=1)]


class Settings(SharedSettings):
    """Created by `main` only, which passes settings on.

    Relative paths, also in SQLite URLs, start at the working directory.
    """

    other_names: ClassVar = frozenset()

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. A non-loopback address requires HEART_API_TOKEN or "
        "HEART_TOKENS.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free port.")
    allowed_hosts: HostNames = Field(
        (),
        description="Host names by which the service is called, separated by commas, beside "
        "localhost, HEART_HOST and every IP address: names of its proxy, of a container or Service. "
        "*.DOMAIN allows all subdomains, * any name. Requests for other names are rejected (421).",
        json_schema_extra={"default": ""},
    )
    root_path: RootPath = Field(
        "",
        description="Path below which a proxy has the service, such as /heart, whether it passes the "
        "path on or removes it.",
    )
    trust_forwarded_prefix: bool = Field(
        False,
        description="true: the header X-Forwarded-Prefix gives that path. Only behind a proxy that "
        "replaces or removes the header in every request.",
    )
    tokens: SecretStr | None = Field(
        None,
        description="Further tokens with a name and scopes, each as NAME SCOPES SECRET, separated by "
        "semicolons or line ends: hospital predict,feedback SECRET; prometheus metrics SECRET. Scopes: "
        f"{', '.join(SCOPES)}. Outcomes carry the name of the token that sent them.",
    )
    outcomes_per_minute: Count = Field(
        600,
        description="Outcomes that each token may send in a minute; further ones are rejected with 429.",
    )
    poll_seconds: float = Field(
        30, gt=0, le=86400, description="Seconds between two polls of the registry."
    )
    log_retention_days: float | None = Field(
        None,
        gt=0,
        description="Age in days at which predictions without an outcome are deleted; never if "
        "not set.",
    )
    log_clock_confirmed: date | None = Field(
        None,
        description="Date that has come, such as 2026-05-20: confirms the system clock after the service "
        "was stopped for more than 7 days. Until then HEART_LOG_RETENTION_DAYS deletes nothing, since a "
        "clock that is ahead looks the same.",
    )
    log_queue_max_rows: int = Field(
        50_000,
        ge=MAX_BATCH,
        description="Maximum number of rows that wait for the prediction log; further requests are "
        f"rejected with 503. At least {MAX_BATCH:,}, the largest batch.",
    )
    max_body_bytes: Count = Field(
        8 * 1024 * 1024,
        description="Maximum size of a batch in bytes. 10,000 patients with every measurement take "
        "5.2 million as indented JSON. Other bodies have at most 16,384 bytes.",
    )
    max_concurrent: Count = Field(
        128, description="Requests in progress at which further ones are rejected with 503."
    )

    log_format: Form = Field(
        "text",
        description="Lines of the service's log: text, or json with one object a line. Either has the time in "
        "UTC, the level and the id of the request.",
    )
    access_log: bool = Field(
        False,
        description="true: a line for each response, with method, route, status and time; never a path, an "
        "address or a value.",
    )

    fhir: bool = Field(
        False,
        description="true: predictions can be read as FHIR R4 at /fhir/RiskAssessment/ID, and POST /predict "
        "answers so if the header Accept asks for application/fhir+json. It needs the packages of "
        "requirements/fhir.txt.",
    )

    cds_hooks: bool = Field(
        False,
        description="true: the service answers CDS Hooks at /cds-services. It needs the packages of "
        "requirements/fhir.txt. On a non-loopback address it requires HEART_CDS_PUBLIC_KEYS.",
    )
    cds_url: ServiceUrl = Field(
        "",
        description="Base URL by which CDS clients call the service, such as https://heart.example.org: the "
        "audience of their tokens begins with it, and cards link to it. If not set, http://HOST:PORT of the "
        "settings.",
    )
    cds_public_keys: KeySource = Field(
        "",
        description="Public keys of the CDS clients as JSON Web Key Set: a file or an https URL. If set, the "
        "routes of CDS Hooks require a JSON Web Token that one of them signed, and HEART_CDS_URL and "
        "HEART_CDS_ISSUERS must be set. If not, they require a token of the service as the API does.",
    )
    cds_issuers: Words = Field(
        (),
        description="Values of iss in the tokens of CDS clients that are accepted, separated by commas.",
        json_schema_extra={"default": ""},
    )
    cds_origins: Origins = Field(
        (),
        description="Origins of browser-based CDS clients, such as https://ehr.example.org, separated by "
        "commas. Their pages may call the routes of CDS Hooks (CORS).",
        json_schema_extra={"default": ""},
    )

    guard_labels: int = Field(
        50,
        ge=MIN_CELL_COUNT,
        description="Recorded outcomes from which on the champion is compared with the version "
        "before it, on the same patients.",
    )
    guard_confidence: float = Field(
        0.99,
        gt=0.5,
        lt=1,
        description="1 minus the probability that a champion that is no worse is ever reported as "
        "worse.",
    )
    guard_rollback: bool = Field(
        False,
        description="true: roll back, like make rollback, if the champion is reported as worse. "
        "false: only report it as a metric.",
    )

    guard_senders: int = Field(
        2,
        ge=1,
        le=2,
        description="2: the automatic rollback requires that the champion is reported as worse without "
        "the outcomes of any single token, so that no token alone can cause it; with outcomes of one "
        "token it is left to a person. 1: outcomes of one token suffice.",
    )

    @field_validator("tokens")
    @classmethod
    def _are_tokens(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse(value.get_secret_value())
        return value

    def all_tokens(self) -> Tokens:
        """The tokens of both settings. Raises ValueError for two with one name or one secret."""
        tokens = []
        if self.api_token is not None:
            tokens.append(Token(DEFAULT, frozenset(SCOPES), self.api_token.get_secret_value()))
        if self.tokens is not None:
            tokens += parse(self.tokens.get_secret_value())
        return Tokens(check(tokens))

    @model_validator(mode="after")
    def _require_token(self) -> Self:
        if not self.all_tokens() and not is_loopback(self.host):
            raise ValueError(
                f"HEART_API_TOKEN (at least 16 characters) or HEART_TOKENS is required to listen on HEART_HOST="
                f"{self.host}, a non-loopback address: without it, everyone who can connect can read "
                "and write patients' data"
            )
        return self

    @model_validator(mode="after")
    def _require_cds_public_keys(self) -> Self:
        if self.cds_hooks and not self.cds_public_keys and not is_loopback(self.host):
            raise ValueError(
                f"HEART_CDS_PUBLIC_KEYS is required for HEART_CDS_HOOKS=true on HEART_HOST={self.host}, a non-loopback "
                "address: only a signed token shows which client sends a patient's data"
            )
        if self.cds_public_keys and not (self.cds_url and self.cds_issuers):
            raise ValueError(
                "HEART_CDS_PUBLIC_KEYS is set, so HEART_CDS_URL and HEART_CDS_ISSUERS must be set too: tokens are "
                "for an address and of an issuer"
            )
        return self

    def cds_base_url(self) -> str:
        """The base URL for CDS clients, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.cds_url or f"http://{host}:{self.port}{self.root_path}"
