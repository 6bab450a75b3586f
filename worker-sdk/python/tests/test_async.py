"""Claims that are awaited."""

import asyncio
import selectors

from conftest import PATIENCE


def test_a_claim_waits_without_blocking_the_loop(place):
    async def serve():
        worker, served = place.worker(), 0
        for number in range(20):
            async def sender():
                await asyncio.sleep(0)
                place.send(b"a", bytes([number]))

            job, _ = await asyncio.gather(worker.aclaim(), sender())
            with job:
                served += sum(1 for _ in job.messages)
                job.set_value(b"%d" % number)
        return served

    assert asyncio.run(asyncio.wait_for(serve(), PATIENCE)) == 20
    assert place.value(b"a") == b"19"


def test_a_claim_that_is_cancelled_takes_nothing(place):
    async def serve():
        worker = place.worker()
        for _ in range(5):
            try:
                await asyncio.wait_for(worker.aclaim(), 0.01)
                raise AssertionError("nothing was ready")
            except TimeoutError:
                pass
        place.send(b"a", b"go")
        job = await worker.aclaim()
        assert (job.attempts, len(job.messages)) == (0, 1)
        job.commit()

    asyncio.run(asyncio.wait_for(serve(), PATIENCE))


def test_a_stop_ends_the_wait(place):
    async def serve():
        worker = place.worker()
        waiting = asyncio.ensure_future(worker.aclaim())
        await asyncio.sleep(0)
        worker.stop()
        return await waiting

    assert asyncio.run(asyncio.wait_for(serve(), PATIENCE)) is None


def test_a_cancelled_task_gives_its_object_back(place):
    async def hold(worker, held):
        with await worker.aclaim():
            held.set()
            await asyncio.Event().wait()

    async def serve():
        place.send(b"a", b"go")
        worker, held = place.worker(), asyncio.Event()
        task = asyncio.ensure_future(hold(worker, held))
        await held.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with await worker.aclaim() as job:
            assert job.attempts == 0, "it was not the object's fault"

    asyncio.run(asyncio.wait_for(serve(), PATIENCE))


def test_a_worker_is_watched_by_a_selector(place):
    worker, served = place.worker(), 0
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        for number in range(20):
            place.send(b"a", bytes([number]))
            while served <= number:
                selector.select()
                while (job := worker.claim(0)) is not None:
                    with job:
                        served += len(job.messages)
    assert served == 20
