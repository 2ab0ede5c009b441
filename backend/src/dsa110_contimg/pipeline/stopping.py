"""How a run is told to stop: the first SIGTERM or SIGINT asks it to, the second one does not wait."""

import logging
import signal
import time
from threading import Event, current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any, Self

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SLICE_S = 0.5
"""A signal is noticed within this time: its handler may not wake who waits for an Event, which would deadlock."""


class StopRequest:
    """Counts the signals that ask this process to stop, within a block of its main thread."""

    def __init__(self) -> None:
        self._signals = 0
        self._earlier: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self._signals > 0

    @property
    def urgent(self) -> bool:
        """Whether it is to stop at once."""
        return self._signals > 1

    def wait(self, event: Event, seconds: float) -> None:
        """Wait for an event, at most so many seconds, and not beyond a signal."""
        deadline, before = time.monotonic() + seconds, self._signals
        while self._signals == before and (left := deadline - time.monotonic()) > 0:
            if event.wait(min(left, SLICE_S)):
                return

    def __enter__(self) -> Self:
        if current_thread() is main_thread():
            self._earlier = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 2:
            raise KeyboardInterrupt(signal.Signals(number).name)
