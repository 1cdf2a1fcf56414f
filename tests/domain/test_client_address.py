from __future__ import annotations

import pytest

from gateway.domain.client_address import address_group


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("unix:/run/x", "unix:/run/x"),
        ("203.0.113.999", "203.0.113.999"),
    ],
)
def test_an_address_counts_by_itself_or_by_its_64(host: str, group: str) -> None:
    assert address_group(host) == group
