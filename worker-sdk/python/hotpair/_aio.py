"""Claims that are awaited."""

import asyncio


async def claim(worker):
    """See ``Worker.aclaim``. The loop watches the worker's descriptor: no thread, and a claim that is cancelled has taken nothing."""
    loop = asyncio.get_running_loop()
    descriptor = worker.fileno()
    while True:
        job = worker.claim(0)
        if job is not None or worker.stopped:
            return job
        readable = asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(descriptor)
