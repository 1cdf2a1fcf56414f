"""What a call leaves behind: its row in the usage log, its count in the metrics, its line in the log."""

from __future__ import annotations

import structlog

from gateway.domain.usage_row import UsageRow
from gateway.errors import DarkroomError, ProviderError, ProviderTimeout, ProviderUnavailable
from gateway.services.calls import Call
from gateway.storage.journal import Journal
from gateway.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)


class UsageRecorder:
    """Rows of hits, joins and refusals go through the journal; a buyer's row is written with its outcome, in SQL."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._journal = journal
        self._metrics = metrics
        self._debug = _log.bind().debug  # bound once: nothing at all unless debugging

    def served(self, row: UsageRow) -> None:
        """Journal a hit or a join before its answer leaves. Raises StorageFailed."""
        self._journal.append(row)
        self.count(row)
        if row.outcome == "hit":
            self._debug("hit", request_id=row.id, generation_id=row.generation_id)
        else:
            self._log_outcome(row)

    def note(self, row: UsageRow) -> None:
        """Journal a row whose answer is a failure: a journal that can't be written changes nothing for the caller."""
        try:
            self._journal.append(row)
        except DarkroomError as exc:
            _log.error("usage_row_lost", request_id=row.id, reason=str(exc))
        self.count(row)
        self._log_outcome(row)

    def bought(self, row: UsageRow) -> None:
        """Count a purchase whose row is in SQL already."""
        self.count(row)
        self._log_outcome(row)

    def refused(self, call: Call, error: DarkroomError) -> None:
        """Journal a refusal or a failure, if we know whose it is."""
        if call.caller is None:
            _log.info("refused", request_id=call.request_id, code=error.code, status=error.status)
            return
        failed = isinstance(error, ProviderError | ProviderTimeout | ProviderUnavailable)
        self.note(call.usage_row("failed" if failed else "refused", status=error.status, code=error.code))

    def count(self, row: UsageRow) -> None:
        self._metrics.calls.count(
            row.outcome,
            row.model or "",
            row.mode,
            latency_us=row.latency_us,
            saved_micro_usd=row.saved_micro_usd,
        )

    def _log_outcome(self, row: UsageRow) -> None:
        _log.info(
            row.outcome,
            request_id=row.id,
            generation_id=row.generation_id,
            key_id=row.key_id,
            user_id=row.user_id,
            model=row.model,
            mode=row.mode,
            status=row.status,
            code=row.code,
            images=row.images,
            cost_micro_usd=row.cost_micro_usd,
            latency_ms=row.latency_us // 1000,
        )
