"""The loop of a worker that does nothing else."""

import logging
import signal
from contextlib import contextmanager

from ._native import Error

log = logging.getLogger("hotpair")


@contextmanager
def _stopped_by(worker, signals):
    """Handlers can be set in the main thread alone; they are what they were afterwards."""
    before = {number: signal.signal(number, lambda *_: worker.stop()) for number in signals or ()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(worker, handler, signals=None):
    """See ``Worker.run``."""
    with _stopped_by(worker, signals):
        while (job := worker.claim()) is not None:
            try:
                with job:
                    handler(job)
            except Error as error:
                # The object is ready again.
                log.warning("not committed: %s", error)
            except Exception:
                log.exception("the handler failed")
