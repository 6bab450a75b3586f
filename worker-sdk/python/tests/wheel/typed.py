"""Checked by mypy, strictly: what workers do with the package has types."""

import asyncio
import struct

import hotpair
from hotpair.testing import Pair


def serve(job: hotpair.Job) -> None:
    value: memoryview = job.value_mut(8)
    (count,) = struct.unpack_from("<Q", value)
    for message in job.messages:
        if message.source is not None:
            job.emit("sip", message.source, bytes(message.payload))
            job.answer("sip", message, b"ok")
    struct.pack_into("<Q", value, 0, count + 1)
    job.set_timer(0.5)


def in_a_loop(worker: hotpair.Worker) -> int:
    while (job := worker.claim(timeout=1.0)) is not None:
        with job:
            serve(job)
    return worker.fileno()


async def awaited(worker: hotpair.Worker) -> bytes | None:
    job = await worker.aclaim()
    if job is None:
        return None
    with job:
        return job.read("calls", b"call-1")


def main() -> None:
    pair = Pair(["calls"], ["sip"])
    pair.deliver("calls", b"call-1", b"INVITE")
    worker = hotpair.attach(pair.space, "calls")
    try:
        worker.run(serve)
    except hotpair.Conflict as error:
        print(error)
    asyncio.run(awaited(worker))
