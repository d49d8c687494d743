"""Ctrl-C between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Stop:
    """Turns the first Ctrl-C into a wish that the loop grants between two steps; a second one ends the process."""

    def __init__(self, active: bool) -> None:
        self.asked = False
        self.active = active and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Stop:
        if self.active:
            self.earlier = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.earlier)

    def __exit__(self, *_: object) -> None:
        if self.active:
            signal.signal(signal.SIGINT, self.earlier)
