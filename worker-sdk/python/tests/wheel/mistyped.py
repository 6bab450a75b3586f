"""Checked by mypy, strictly: three mistakes that it must find."""

import hotpair


def serve(worker: hotpair.Worker) -> None:
    worker.claim(0).commit()
    job = worker.claim()
    if job is not None:
        job.emit("sip", ("127.0.0.1", 5060), "text")
        job.comit()
