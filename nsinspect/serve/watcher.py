"""Beside the scrapes: a look every few seconds, kept as a recording and told as events, where somebody asked for it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from nsinspect.errors import RootError
from nsinspect.kernfs import Roots
from nsinspect.record import Looker
from nsinspect.serve.lending import Borrower
from nsinspect.store import Recorder, StoreError
from nsinspect.webhook import Webhook

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be done with each look: kept in ``store``, told in the log, sent to ``webhook``."""

    store: str | None = None
    interval: float = 5.0
    events: bool = False
    webhook: str | None = None
    webhook_secret: str | None = None
    webhook_queue: str = ""

    @property
    def any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.store or self.events or self.webhook)


class Watcher:
    """Looks in a thread of its own.  Raises what :class:`Recorder` and :class:`Webhook` raise."""

    def __init__(self, roots: Roots, wishes: Wishes, lender: str | None) -> None:
        self._wishes = wishes
        self._borrower = Borrower(lender) if lender else None
        self._looker = Looker(roots, self._borrower)
        self._recorder = Recorder(wishes.store) if wishes.store else None
        self._webhook = None
        if wishes.webhook:
            self._webhook = Webhook.of(
                wishes.webhook, wishes.webhook_secret, wishes.webhook_queue, lambda line: log.warning("%s", line)
            )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watcher")
        self._thread.start()
        log.info("looking every %g s%s", wishes.interval, f", recording in {wishes.store}" if wishes.store else "")

    def stop(self) -> None:
        """Look no more; a look that is on its way is not waited for longer than a moment."""
        self._stop.set()
        self._thread.join(2.0)
        if self._webhook is not None:
            self._webhook.close(1.0)
        if self._recorder is not None and not self._thread.is_alive():
            self._recorder.close()

    def _run(self) -> None:
        following = time.monotonic()
        while not self._stop.wait(max(0.0, following - time.monotonic())):
            following = max(following + self._wishes.interval, time.monotonic())
            try:
                self._look()
            except (RootError, StoreError) as error:
                log.error("%s: one look is lost", error)
            except Exception:
                # A bug in here must not end what was asked for, nor the scrapes beside it.
                log.exception("one look is lost")

    def _look(self) -> None:
        try:
            snapshot, events = self._looker.look()
        finally:
            if self._borrower is not None:
                self._borrower.close()
        for one in events:
            self._tell(one)
        if self._recorder is not None:
            self._recorder.add(snapshot, events)

    def _tell(self, one: dict[str, Any]) -> None:
        if self._wishes.events:
            log.info("%s", one["message"], extra={"event": one})
        if self._webhook is not None:
            self._webhook.put(one)
