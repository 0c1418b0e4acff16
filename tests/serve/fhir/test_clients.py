"""Which CDS clients may call: signed tokens, their keys, and pages of other origins."""

import asyncio
import base64
import hmac
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from pydantic import ValidationError

from heart.errors import UserError
from heart.http.tokens import Tokens
from serve.app import create_app
from serve.settings import Settings
from tests.fixtures.security import SecurityFigure
from tests.serve.small_service import parts

pytest.importorskip("fhir.resources", reason="requirements/fhir.txt is not installed")
pytest.importorskip("joserfc", reason="requirements/fhir.txt is not installed")

from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey

from serve.fhir import clients as clients_module
from serve.fhir import keys as keys_module
from serve.fhir.cards import SERVICE_PATH
from serve.fhir.clients import MAX_SECONDS, Clients, Replays
from serve.fhir.keys import MAX_BYTES, Keys
from serve.page_paths import CALL
from tests.serve.fhir.resources import request
from tests.serve.fhir.signing import EC, ISSUER, RSA, URL, bearer, claims, public, signed

FEEDBACK = f"{SERVICE_PATH}/feedback"
API_TOKEN = "the-token-of-the-service"
ORIGIN = "https://ehr.example.org"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(public(EC, RSA)))
    return file


def settings(key_file: Path) -> dict[str, Any]:
    return {
        "cds_hooks": True,
        "cds_url": f"{URL}/",
        "cds_public_keys": str(key_file),
        "cds_issuers": ISSUER,
        "cds_origins": ORIGIN,
        "api_token": API_TOKEN,
    }


@pytest.fixture
def client(tmp_path: Path, key_file: Path) -> Iterator[TestClient]:
    app = create_app(*parts(tmp_path, **settings(key_file)), with_page=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def status(client: TestClient, token: str, path: str = SERVICE_PATH) -> int:
    return client.post(path, json=request(), headers=bearer(token)).status_code


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES384"), (RSA, "RS384")])
def test_a_signed_token_is_accepted_once(client: TestClient, key: Any, alg: str) -> None:
    token = signed(key=key, alg=alg)

    assert [status(client, token) for _ in range(2)] == [200, 401]


def test_feedback_carries_the_issuer(client: TestClient) -> None:
    response = client.post(SERVICE_PATH, json=request(), headers=bearer(signed()))
    card = response.json()["cards"][0]
    assert card["links"][0]["url"] == f"{URL}/"
    entry = {
        "card": card["uuid"],
        "outcome": "overridden",
        "outcomeTimestamp": "2026-11-27T08:00:00Z",
    }

    for audience in (URL + FEEDBACK, [URL + SERVICE_PATH, "https://other.example.org"]):
        token = signed(claims(aud=audience))
        response = client.post(FEEDBACK, json={"feedback": [entry]}, headers=bearer(token))
        assert response.status_code == 200

    log = client.app.state.service.log  # type: ignore[attr-defined]
    with log.store.reading() as connection:
        senders = connection.exec_driver_sql("SELECT sender FROM card_feedback").all()
    assert senders == [(ISSUER,)]


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(head: dict[str, Any], content: dict[str, Any]) -> str:
    return ".".join(encoded(json.dumps(part).encode()) for part in (head, content)) + "."


def signed_by_secret(secret: bytes) -> str:
    text = unsigned({"alg": "HS256", "typ": "JWT", "kid": "ec"}, claims())
    signature = hmac.digest(secret, text.rstrip(".").encode(), "sha256")
    return text + encoded(signature)


def escaped(content: dict[str, Any]) -> str:
    """A token whose claims have escapes; `jwt.encode` writes UTF-8."""
    head = {"alg": "ES384", "typ": "JWT", "kid": EC.kid}
    return jws.serialize_compact(head, json.dumps(content), EC, algorithms=["ES384"])


def forged() -> dict[str, str]:
    """Tokens that must not be accepted, by what is wrong with them."""
    now = claims()["iat"]
    other = ECKey.generate_key("P-384", {"kid": "ec"})
    small = ECKey.generate_key("P-256", {"kid": "ec"})
    parts = signed().split(".")
    changed = encoded(json.dumps(claims(sub="x")).encode())
    return {
        "another key": signed(key=other),
        "another curve": signed(key=small, alg="ES256"),
        "the public key as a secret": signed_by_secret(EC.as_pem(private=False)),
        "no algorithm": unsigned({"alg": "none", "typ": "JWT", "kid": "ec"}, claims()),
        "ES384 without a signature": unsigned(
            {"alg": "ES384", "typ": "JWT", "kid": "ec"}, claims()
        ),
        "other claims": ".".join([parts[0], changed, parts[2]]),
        "an algorithm of another key": signed(key=RSA, alg="RS384", kid="ec"),
        "RS256": signed(key=RSA, alg="RS256"),
        "an unknown key id": signed(kid="new"),
        "no key id": signed(kid=None),
        "an access token": signed(typ="at+jwt"),
        "no type": signed(typ=None),
        "a critical extension": signed(crit=["b64"], b64=True),
        "another issuer": signed(claims(iss="https://evil.example.org")),
        "another audience": signed(claims(aud="https://other.example.org/cds-services/x")),
        "the discovery's audience": signed(claims(aud=f"{URL}/cds-services")),
        "an empty audience": signed(claims(aud=[])),
        "expired": signed(claims(exp=now - 120, iat=now - 400)),
        "valid for a day": signed(claims(exp=now + 86400)),
        "an expiry of infinity": signed(claims(exp=float("inf"))),
        "an expiry as text": signed(claims(exp=str(now + 200))),
        "issued in the future": signed(claims(iat=now + 1000)),
        "a jti that is no text": signed(claims(jti=7)),
        "a jti that UTF-8 cannot write": escaped(claims(jti="\ud800")),
        "an empty jti": signed(claims(jti="")),
        **{f"without {name}": signed(claims(**{name: None})) for name in claims()},
        "claims that are no object": signed().split(".")[0] + ".W10.x",
        "deep claims": ".".join([parts[0], encoded(b'{"aud":' + b"[" * 9000), parts[2]]),
        "a deep head": ".".join([encoded(b'{"alg":' + b"[" * 9000), *parts[1:]]),
        "text": "x.y.z",
        "nothing": "",
        "the token of the service": API_TOKEN,
    }


@pytest.mark.security
def test_no_forged_token_is_accepted(client: TestClient, security_figure: SecurityFigure) -> None:
    statuses = {what: status(client, token) for what, token in forged().items()}

    assert {what: code for what, code in statuses.items() if code != 401} == {}
    assert status(client, signed()) == 200
    security_figure(
        "CDS Hooks calls with a forged, expired, foreign or replayed token",
        f"{len(statuses)} of {len(statuses)} rejected",
        "all rejected (401)",
    )


@pytest.mark.security
def test_a_flood_of_invalid_signatures_costs_little(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, security_figure: SecurityFigure
) -> None:
    monkeypatch.setattr(clients_module, "INVALID_PER_MINUTE", 5)
    now = [time.time()]
    clients = Clients(Tokens(), Keys(str(key_file)), (ISSUER,), URL, clock=lambda: now[0])
    clients.keys.read()
    verified = 0

    def count(*_: Any, **__: Any) -> Any:
        nonlocal verified
        verified += 1
        return decode(*_, **__)

    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", count)
    other = ECKey.generate_key("P-384", {"kid": "ec"})

    def code(token: str) -> int:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        scope = {"path": SERVICE_PATH, "root_path": "", "headers": headers}
        try:
            clients.authenticate(scope)
        except HTTPException as error:
            return error.status_code
        return 200

    statuses = [code(signed(key=other)) for _ in range(50)]

    assert set(statuses) == {401, 503}
    assert verified <= 6
    invalid = verified
    now[0] += 12
    assert code(signed()) == 200
    security_figure(
        "50 CDS Hooks calls with invalid signatures, where 5 a minute are allowed",
        f"{invalid} signatures verified",
        "at most 6",
    )


def test_a_rejection_shows_nothing_of_the_token(client: TestClient) -> None:
    token = signed(claims(iss="https://evil.example.org", jti="secret-jti"))

    response = client.post(SERVICE_PATH, json=request(), headers=bearer(token))

    assert response.headers["www-authenticate"] == "Bearer"
    assert "evil" not in response.text
    assert "secret-jti" not in response.text


def test_a_token_of_a_client_opens_no_other_route(client: TestClient) -> None:
    for method, path in (("POST", "/predict"), ("GET", "/model"), ("DELETE", "/predictions/x")):
        response = client.request(method, path, headers=bearer(signed(claims(aud=URL + path))))
        assert response.status_code == 401


@pytest.mark.security
def test_a_stranger_is_rejected_before_the_body_is_read(
    client: TestClient, security_figure: SecurityFigure
) -> None:
    async def receive() -> Any:
        pytest.fail("the body was read")

    async def call() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": SERVICE_PATH, "root_path": "", "scheme": "http",
            "query_string": b"", "http_version": "1.1", "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"testserver"), (b"content-length", b"1000000"),
                        (b"authorization", b"Bearer " + signed(claims(exp=1)).encode())],
        }  # fmt: skip
        await client.app(scope, receive, send)
        return sent

    assert asyncio.run(call())[0]["status"] == 401
    security_figure(
        "the body of a CDS Hooks call without a valid token",
        "0 bytes read",
        "rejected before the body is read",
    )


def test_the_server_and_the_route_verify_a_token_once(key_file: Path) -> None:
    clients = Clients(Tokens(), Keys(str(key_file)), (ISSUER,), URL)
    clients.keys.read()
    headers = [(b"authorization", f"Bearer {signed()}".encode())]
    scope: dict[str, Any] = {"path": SERVICE_PATH, "root_path": "", "headers": headers}

    assert clients.authenticate(scope).name == ISSUER
    assert clients.authenticate({**scope}).name == ISSUER

    again = {"path": SERVICE_PATH, "root_path": "", "headers": headers}
    with pytest.raises(HTTPException):
        clients.authenticate(again)


def test_used_tokens_are_forgotten_after_they_expire_and_bounded() -> None:
    now = [0.0]
    replays = Replays(lambda: now[0], limit=3)
    for number in range(3):
        replays.use("issuer", str(number))
    with pytest.raises(HTTPException) as replayed:
        replays.use("issuer", "1")
    with pytest.raises(HTTPException) as full:
        replays.use("issuer", "3")
    assert (replayed.value.status_code, full.value.status_code) == (401, 503)

    now[0] = MAX_SECONDS + 200
    for number in range(3):
        replays.use("issuer", str(number))


def write(file: Path, content: Any) -> Keys:
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return Keys(str(file))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 90_000,
        {},
        {"keys": []},
        {"keys": [7]},
        {"keys": ["text"]},
        {"keys": [["list"]]},
        {"keys": [EC.as_dict(private=True)]},
        {"keys": [EC.as_dict(private=False) | {"kid": None}]},
        {"keys": [EC.as_dict(private=False) | {"use": "enc"}]},
        {"keys": [EC.as_dict(private=False) | {"x": "AA"}]},
        {"keys": [ECKey.generate_key("P-256", {"kid": "a"}).as_dict(private=False)]},
        {"keys": [OctKey.generate_key(256, {"kid": "a"}).as_dict(private=True)]},
    ],
)
def test_a_key_set_without_a_usable_key_is_rejected(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match="HEART_CDS_PUBLIC_KEYS"):
        write(tmp_path / "keys", content).read()


def test_a_short_rsa_key_is_not_usable(tmp_path: Path) -> None:
    short = json.loads((Path(__file__).parent / "short_rsa.json").read_text())
    keys = write(tmp_path / "keys", {"keys": [short, EC.as_dict(private=False)]})

    keys.read()

    assert [key.kid for key in keys.current] == ["ec"]


def test_an_unreadable_key_file_ends_the_start(tmp_path: Path, key_file: Path) -> None:
    key_file.write_text("{")

    with pytest.raises(UserError, match="HEART_CDS_PUBLIC_KEYS"):
        create_app(*parts(tmp_path, **settings(key_file)), with_page=False)


def test_keys_are_read_again_when_a_token_names_an_unknown_one(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ECKey.generate_key("P-384", {"kid": "new"})
    monkeypatch.setattr(keys_module, "PAUSE_SECONDS", 0)

    async def changed() -> list[list[str]]:
        keys, reads = Keys(str(key_file)), asyncio.Queue[list[str]]()
        read, loop = keys.read, asyncio.get_running_loop()

        def read_and_report() -> None:
            try:
                read()
            finally:
                names = [str(key.kid) for key in keys.current]
                loop.call_soon_threadsafe(reads.put_nowait, names)

        monkeypatch.setattr(keys, "read", read_and_report)
        task = asyncio.create_task(keys.follow())
        seen = [await asyncio.wait_for(reads.get(), 5)]
        for content in (public(new), "damaged"):
            write(key_file, content)
            keys.want()
            seen.append(await asyncio.wait_for(reads.get(), 5))
        task.cancel()
        return seen

    assert asyncio.run(changed()) == [["ec", "rsa"], ["new"], ["new"]]


@pytest.fixture
def key_server() -> Iterator[tuple[str, dict[str, Any]]]:
    """The URL of a server, and its answers by path: status, headers and body."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, headers, body = answers[self.path]
            self.send_response(code)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()
        thread.join()


def test_keys_are_read_from_an_address(key_server: tuple[str, dict[str, Any]]) -> None:
    url, answers = key_server
    answers["/jwks"] = 200, {}, json.dumps(public(EC)).encode()
    answers["/moved"] = 302, {"location": "/jwks"}, b""
    answers["/long"] = 200, {}, b" " * (MAX_BYTES + 1)
    answers["/gone"] = 404, {}, b""

    keys = Keys(f"{url}/jwks")
    keys.read()

    assert [key.kid for key in keys.current] == ["ec"]
    for path in ("/moved", "/long", "/gone"):
        with pytest.raises(UserError, match="HEART_CDS_PUBLIC_KEYS") as error:
            Keys(url.replace("//", "//me:s3cret@") + path).read()
        assert "s3cret" not in str(error.value)


def test_before_the_keys_are_known_a_client_is_asked_to_retry() -> None:
    clients = Clients(Tokens(), Keys("https://ehr.invalid/jwks"), (ISSUER,), URL)
    headers = [(b"authorization", f"Bearer {signed()}".encode())]

    with pytest.raises(HTTPException) as error:
        clients.authenticate({"path": SERVICE_PATH, "root_path": "", "headers": headers})

    assert error.value.status_code == 503


def test_a_client_that_has_to_wait_is_told_how_long(tmp_path: Path, key_file: Path) -> None:
    app = create_app(*parts(tmp_path, **settings(key_file)), with_page=False)
    app.state.clients.keys.current = []

    response = TestClient(app).post(SERVICE_PATH, json=request(), headers=bearer(signed()))

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "www-authenticate" not in response.headers


def test_keys_of_clients_close_no_page_that_needs_no_login(tmp_path: Path, key_file: Path) -> None:
    statuses = {}
    for token in (None, API_TOKEN):
        given = settings(key_file) | {"api_token": token}
        client = TestClient(create_app(*parts(tmp_path / str(token), **given), with_page=False))
        statuses[token] = client.post(CALL, json={}).status_code

    assert statuses == {None: 404, API_TOKEN: 401}  # 404: this service has no page


def test_the_scheme_of_the_token_is_in_any_case(client: TestClient) -> None:
    headers = {"Authorization": f"bearer {signed()}"}

    assert client.post(SERVICE_PATH, json=request(), headers=headers).status_code == 200


def test_below_a_sub_path_the_clients_are_the_same(tmp_path: Path, key_file: Path) -> None:
    given = settings(key_file) | {"root_path": "/heart", "cds_url": f"{URL}/heart"}
    with TestClient(create_app(*parts(tmp_path, **given), with_page=False)) as client:
        for path in (SERVICE_PATH, f"/heart{SERVICE_PATH}"):
            token = signed(claims(aud=f"{URL}/heart{SERVICE_PATH}"))
            assert status(client, token, path) == 200
        assert status(client, API_TOKEN) == 401


def test_a_missing_package_ends_the_start_with_the_way_out(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "serve.fhir.keys")
    monkeypatch.setitem(sys.modules, "joserfc.errors", None)

    with pytest.raises(UserError, match=r"joserfc.* is not installed: .*install.py fhir"):
        create_app(*parts(tmp_path, **settings(key_file)), with_page=False)


def preflight(client: TestClient, origin: str, path: str = SERVICE_PATH) -> Any:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return client.options(
        path, headers=headers | {"Access-Control-Request-Headers": "authorization"}
    )


def test_a_page_of_a_configured_origin_may_call(client: TestClient) -> None:
    response = preflight(client, ORIGIN)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "authorization" in response.headers["access-control-allow-headers"]

    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    for response in (
        client.get("/cds-services", headers=headers),
        client.post(SERVICE_PATH, json=request(), headers=headers | bearer(signed())),
    ):
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in response.headers
        assert response.headers["x-content-type-options"] == "nosniff"
    rejected = client.post(SERVICE_PATH, json=request(), headers=headers | bearer("wrong"))
    assert rejected.status_code == 401
    assert rejected.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.security
def test_no_other_page_and_no_other_route_is_open(
    client: TestClient, security_figure: SecurityFigure
) -> None:
    origins = ["https://evil.example.org", "http://ehr.example.org", f"{ORIGIN}:444", "null"]
    attempts = [(origin, SERVICE_PATH) for origin in origins]
    attempts += [(ORIGIN, path) for path in ("/predict", "/cds-servicesx", "/model", "/metrics")]
    rejected = 0
    for origin, path in attempts:
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answers = [
            preflight(client, origin, path),
            client.post(path, json=request(), headers=headers | bearer(signed())),
            client.get(path, headers=headers | bearer(API_TOKEN)),
        ]
        assert all("access-control-allow-origin" not in answer.headers for answer in answers)
        assert {answer.status_code for answer in answers[1:]} == {403}
        rejected += 1

    security_figure(
        "pages of other origins that call CDS Hooks, and of an allowed one that call other routes",
        f"{rejected} of {len(attempts)} rejected",
        "all rejected (403), without CORS headers",
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"host": "192.0.2.1", "cds_public_keys": ""}, "HEART_CDS_PUBLIC_KEYS"),
        ({"cds_url": ""}, "HEART_CDS_URL"),
        ({"cds_issuers": ""}, "HEART_CDS_ISSUERS"),
        ({"cds_public_keys": "/no/such/file"}, "/no/such/file"),
        ({"cds_public_keys": "http://ehr.example.org/jwks"}, "https"),
        ({"cds_origins": "*"}, "origin"),
        ({"cds_origins": "https://ehr.example.org/path"}, "origin"),
        ({"cds_url": "heart.example.org"}, "URL"),
    ],
)
def test_settings_that_do_not_fit_are_rejected(
    key_file: Path, changes: dict[str, Any], part: str
) -> None:
    with pytest.raises(ValidationError, match=part):
        Settings(_env_file=None, **(settings(key_file) | changes))


def test_keys_allow_another_address(key_file: Path) -> None:
    Settings(_env_file=None, **(settings(key_file) | {"host": "192.0.2.1"}))


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "::1", "port": 9}, "http://[::1]:9"),
        ({"root_path": "/heart"}, "http://127.0.0.1:8000/heart"),
        ({"cds_url": "https://heart.example.org/"}, "https://heart.example.org"),
    ],
)
def test_the_base_url_is_that_of_the_settings(changes: dict[str, Any], url: str) -> None:
    assert Settings(_env_file=None, **changes).cds_base_url() == url
