from __future__ import annotations

from gateway.domain.key_health import KeyStatus
from gateway.telemetry.metrics import Metrics


def test_keys_are_counted_by_state_when_somebody_asks() -> None:
    metrics, states = Metrics(), [KeyStatus.HEALTHY]
    metrics.provider_keys.follow("main", lambda: states)
    states += [KeyStatus.HEALTHY, KeyStatus.EJECTED]
    shown = metrics.render().decode()
    assert 'darkroom_provider_keys{provider="main",state="healthy"} 2.0' in shown
    assert 'darkroom_provider_keys{provider="main",state="ejected"} 1.0' in shown
    assert 'darkroom_provider_keys{provider="main",state="cooling"} 0.0' in shown
