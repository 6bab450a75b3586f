"""Memory views of what is in hand: nothing is copied, and none outlives the object."""

import ctypes
import gc
import os
import threading

import pytest

import hotpair
from conftest import next_of

numpy = pytest.importorskip("numpy")


def test_views_are_released_by_the_end_of_the_object(place):
    for end in ("commit", "commit_released", "give_back", "fail"):
        place.send(b"a", b"hello")
        worker = place.worker()
        job = next_of(worker)
        views = [job.messages[0].payload, job.value_mut(16), job.value]
        assert views[0].readonly and not views[1].readonly and views[2].readonly
        getattr(job, end)()
        for view in views:
            with pytest.raises(ValueError, match="released"):
                view[0:1]
            with pytest.raises(ValueError, match="released"):
                bytes(view)
        if end != "commit":
            del worker, job
            gc.collect()
        worker = place.worker()
        while (job := worker.claim(0)) is not None:
            job.withdraw()
            job.commit()


def test_while_somebody_looks_the_object_does_not_end(place):
    place.send(b"a", b"hello")
    worker = place.worker()
    job = next_of(worker)
    derived = [
        job.messages[0].payload[1:3],
        numpy.frombuffer(job.messages[0].payload, numpy.uint8),
        (ctypes.c_char * 5).from_buffer_copy(job.messages[0].payload),  # a copy, which is no view
    ]
    for end in (job.commit, job.commit_released, job.give_back, job.fail):
        with pytest.raises(BufferError, match="2 views"):
            end()
        assert not job.ended and derived[0] == b"el"
    derived[0].release()
    with pytest.raises(BufferError, match="1 views"):
        job.commit()
    del derived[1]
    job.commit()
    assert bytes(derived[1]) == b"hello"


def test_a_value_that_somebody_looks_at_is_not_replaced(place):
    place.send(b"a", b"go")
    job = next_of(place.worker())
    job.set_value(b"12345678")
    array = numpy.frombuffer(job.value_mut(8), numpy.uint8)
    with pytest.raises(BufferError):
        job.set_value(b"other")
    message = job.messages[0].payload  # is not of the value
    array[0] = ord("X")
    del array
    job.set_value(bytes(job.value) + b"9")
    assert message == b"go"
    job.commit()
    assert place.value(b"a") == b"X23456789"


def test_an_object_that_is_left_by_an_exception_ends_with_its_last_view(place):
    place.send(b"a", b"hello")
    worker = place.worker()
    kept = []
    with pytest.raises(RuntimeError):
        with next_of(worker) as job:
            kept.append(job.messages[0].payload[1:])
            raise RuntimeError("on purpose")
    assert job.ended
    with pytest.raises(BufferError):
        worker.claim(0)  # its memory is still looked at
    assert kept[0] == b"ello", "not another's memory"
    kept.clear()
    with next_of(worker) as again:
        assert (again.attempts, bytes(again.messages[0])) == (1, b"hello")


def test_a_block_that_is_left_with_a_view_does_not_commit(place):
    place.send(b"a", b"hello")
    worker = place.worker()
    kept = None
    with pytest.raises(BufferError):
        with next_of(worker) as job:
            job.set_value(b"never")
            kept = job.messages[0].payload[:]
    assert job.ended
    kept.release()
    with next_of(worker) as job:
        assert (bytes(job.value), job.attempts) == (b"", 1)


def test_a_view_keeps_its_worker(place):
    place.send(b"a", b"hello")
    worker = place.worker()
    job = next_of(worker)
    part = job.messages[0].payload[1:]
    del worker, job
    gc.collect()
    assert part == b"ello"
    del part
    with next_of(place.worker()) as job:
        assert (job.attempts, bytes(job.messages[0])) == (0, b"hello")


def test_the_value_as_a_structure(place):
    class Dialog(ctypes.LittleEndianStructure):
        _fields_ = [("answered", ctypes.c_uint64), ("cost", ctypes.c_double)]

    kind = numpy.dtype([("answered", "<u8"), ("cost", "<f8")])
    worker = place.worker()
    for expected in (1, 2, 3):
        place.send(b"a", b"go")
        with next_of(worker) as job:
            if expected == 2:
                dialog = numpy.frombuffer(job.value_mut(kind.itemsize), kind)
                dialog["answered"] += 1
                dialog["cost"] += 0.5
            else:
                dialog = Dialog.from_buffer(job.value_mut(ctypes.sizeof(Dialog)))
                dialog.answered += 1
                dialog.cost += 0.5
            del dialog  # it looks into the object
            gc.collect()
    found = Dialog.from_buffer_copy(place.value(b"a"))
    assert (found.answered, found.cost) == (3, 1.5)


def test_nothing_is_copied(local):
    local.send(b"a", b"hello")
    with next_of(local.worker()) as job:
        address = lambda view: numpy.frombuffer(view, numpy.uint8).ctypes.data
        assert address(job.messages[0].payload) == address(job.messages[0].payload)
        assert address(job.value_mut(64)) == address(job.value), "the private block"
        assert address(job.value) % 16 == 0


def test_views_are_read_by_other_threads(place):
    place.send(b"a", b"hello")
    seen = []
    with next_of(place.worker()) as job:
        view = job.messages[0].payload
        threads = [threading.Thread(target=lambda: seen.append(bytes(view))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [b"hello"] * 4


def test_the_child_of_a_fork_has_no_part_in_it(local):
    local.send(b"a", b"hello")
    worker = local.worker()
    job = next_of(worker)
    child = os.fork()
    if child == 0:
        refused = 0
        for act in (lambda: job.set_value(b"never"), job.commit, lambda: worker.claim(0)):
            try:
                act()
            except hotpair.Misuse as error:
                refused += "fork" in str(error)
        del job, worker  # the parent's, which stay as they are
        gc.collect()
        os._exit(refused)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    job.set_value(b"mine")
    job.commit()
    assert local.value(b"a") == b"mine"
