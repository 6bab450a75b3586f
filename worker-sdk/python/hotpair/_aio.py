"""Claims that are awaited."""

import asyncio


async def claim(worker):
    """See ``Worker.aclaim``."""
    return await (_claim_afar(worker) if worker.remote else _claim_here(worker))


async def _claim_here(worker):
    """The loop watches the worker's descriptor: no thread, and a claim that is cancelled has taken nothing."""
    loop = asyncio.get_running_loop()
    while True:
        job = worker.claim(0)
        if job is not None or worker.stopped:
            return job
        bell = worker._bell()
        rest = worker._arm()
        if rest is None:
            await asyncio.sleep(0)
            continue
        rung = asyncio.Event()
        loop.add_reader(bell, rung.set)
        try:
            async with asyncio.timeout(rest):
                await rung.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(bell)
            worker._disarm()


async def _claim_afar(worker):
    """A thread waits. Of a claim that is cancelled what it has taken is given back."""
    loop = asyncio.get_running_loop()
    while not worker.stopped:
        waiting = loop.run_in_executor(None, worker.claim, 0.1)
        try:
            job = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(_give_back)
            raise
        if job is not None:
            return job
    return None


def _give_back(waiting):
    if not waiting.cancelled() and waiting.exception() is None and waiting.result() is not None:
        waiting.result().give_back()
