"""What webhooks are sent: signatures, pauses, addresses."""

from __future__ import annotations

import pytest

from gateway.domain.webhook import BACK_OFF_S, check_url, masked, new_secret, next_attempt_ms, signed_headers
from gateway.errors import InvalidRequest


def test_the_signature_is_that_of_the_standards_own_example():
    """As the tests of its reference libraries have it."""
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at_s=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_secrets_differ_and_say_what_they_are():
    one, other = new_secret(), new_secret()
    assert one != other
    assert one.startswith("whsec_")
    assert len(one) == 50


def test_the_pauses_grow_to_a_day_and_then_it_is_over():
    pauses = [next_attempt_ms(attempts, 1000) for attempts in range(1, len(BACK_OFF_S) + 2)]
    assert pauses == [1000 + 1000 * seconds for seconds in BACK_OFF_S] + [None]
    assert list(BACK_OFF_S) == sorted(BACK_OFF_S)


@pytest.mark.parametrize("url", ["https://hooks.example.com/a?b=c", "http://127.0.0.1:9093/x", "http://[::1]/"])
def test_what_can_be_posted_to(url: str):
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "give an address"),
        ("ftp://example.com/", "give an address"),
        ("file:///etc/passwd", "give an address"),
        ("//example.com/", "give an address"),
        ("https:///x", "give an address"),
        ("https://exa mple.com/", "give an address"),
        ("https://example.com/\n", "give an address"),
        ("https://example.com:port/", "give an address"),
        ("http://[::1/", "give an address"),
        ("https://example.com/" + "x" * 2000, "give an address"),
        ("https://ada:secret@example.com/", "name and password"),
    ],
)
def test_what_can_not(url: str, message: str):
    with pytest.raises(InvalidRequest, match=message):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.com/services/T0/B0/secret", "https://hooks.example.com/..."),
        ("http://[::1]:9093/?token=secret", "http://[::1]:9093/..."),
        ("https://hooks.example.com?token=secret", "https://hooks.example.com/..."),
        ("https://hooks.example.com/", "https://hooks.example.com/"),
        ("https://hooks.example.com", "https://hooks.example.com"),
    ],
)
def test_what_may_be_a_secret_of_an_address_is_not_shown(url: str, shown: str):
    assert masked(url) == shown
