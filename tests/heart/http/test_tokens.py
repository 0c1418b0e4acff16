import pytest

from heart.http.rate import RateExceeded, RateLimit
from heart.http.tokens import DEFAULT, SCOPES, Token, Tokens, parse

A, B = "a-secret-of-some-length", "b-secret-of-some-length"


def test_tokens_are_separated_by_lines_or_semicolons() -> None:
    tokens = parse(f"ward predict,feedback {A}; lab feedback {B}\n\n lab2 metrics {A}2 ;")

    assert [(token.name, sorted(token.scopes)) for token in tokens] == [
        ("ward", ["feedback", "predict"]),
        ("lab", ["feedback"]),
        ("lab2", ["metrics"]),
    ]
    assert A not in repr(tokens)


@pytest.mark.security
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"ward predict {A}; ward feedback {B}", "ward is there twice"),
        (f"ward predict {A}; lab feedback {A}", "same secret"),
        (f"ward read {A}", "scopes of the token ward"),
        (f"ward {A} predict", "scopes of the token ward"),
        ("ward predict", "2 parts"),
        ("ward predict short", "secret of the token ward"),
        (f"Ward! predict {A}", "name of token 1"),
        (f"unknown predict {A}", "name of token 1"),
    ],
)
def test_invalid_tokens_are_rejected_without_their_secret(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        parse(text)

    assert A not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_login_has_the_name_of_its_token() -> None:
    default = Token(DEFAULT, frozenset(SCOPES), "d-secret-of-some-length")
    tokens = Tokens((default, *parse(f"ward predict,feedback {A}; lab feedback {B}")))

    def name(user: str, password: str) -> str | None:
        token = tokens.login(user, password)
        return token.name if token else None

    assert name("ward", A) == "ward"
    assert name("anyone", A) is None
    assert name("lab", B) is None  # it may not predict
    assert name("anyone", default.secret) == DEFAULT
    assert name("ward", default.secret) is None
    assert [tokens.sender(user).name for user in ("ward", "anyone", None)] == [
        "ward", DEFAULT, DEFAULT
    ]  # fmt: skip


@pytest.mark.security
def test_the_rate_of_each_sender_is_limited_by_itself() -> None:
    now = [0.0]
    limit = RateLimit(60, clock=lambda: now[0])

    taken = sum(limit.take("lab") == 0 for _ in range(100))
    assert taken == 60
    assert limit.take("ward") == 0
    with pytest.raises(RateExceeded) as error:
        limit.require("lab")
    assert error.value.retry_after == pytest.approx(1)
    now[0] += 2
    assert [limit.take("lab") == 0 for _ in range(3)] == [True, True, False]
    now[0] += 3600
    assert sum(limit.take("lab") == 0 for _ in range(100)) == 60
