"""What the SDK does, as in worker-sdk/tests/conformance, local and remote alike."""

import struct
import threading
import time

import pytest

import hotpair
from conftest import PATIENCE, next_of

PEER = ("127.0.0.1", 5060)


def test_a_job_shows_what_waits(place):
    place.send(b"a", b"one")
    worker = place.worker()
    job = next_of(worker)
    assert (job.key, bytes(job.value), job.attempts) == (b"a", b"", 0)
    (message,) = job.messages
    assert (bytes(message), message.payload, message.source) == (b"one", b"one", PEER)
    assert (job.timer, job.timer_due) == (None, False)
    job.commit()
    assert job.ended
    assert place.pair.object("work", b"a")["waiting"] == 0


def test_messages_come_in_their_order_and_are_consumed_once(place):
    for number in range(40):
        place.send(b"a", bytes([number]))
    worker, seen, ids = place.worker(), [], set()
    while len(seen) < 40:
        with next_of(worker) as job:
            for message in job.messages:
                seen.append(message.payload[0])
                ids.add(message.id)
    assert seen == list(range(40)) and len(ids) == 40


def test_a_value_is_changed_in_place_and_replaced(place):
    worker = place.worker()
    for expected in range(1, 4):
        place.send(b"a", b"go")
        with next_of(worker) as job:
            value = job.value_mut(8)
            (count,) = struct.unpack_from("<Q", value)
            struct.pack_into("<Q", value, 0, count + 1)
            assert struct.unpack_from("<Q", job.value) == (expected,), "one sees what one has written"
        assert place.value(b"a") == struct.pack("<Q", expected)
    for value in (b"x", b"y" * 100, b"", bytearray(b"zz"), memoryview(b"memory")):
        place.send(b"a", b"go")
        with next_of(worker) as job:
            job.set_value(b"no")
            job.set_value(value)
            assert job.value == value
        assert place.value(b"a") == bytes(value)
    place.send(b"a", b"go")
    with next_of(worker) as job:
        with pytest.raises(hotpair.Misuse, match="6 bytes, 8 were asked for"):
            job.value_mut(8)


def test_what_is_not_committed_never_was(place):
    place.send(b"a", b"go")
    worker = place.worker()
    job = next_of(worker)
    job.set_value(b"never")
    job.emit("out", PEER, b"never")
    job.send("work", b"b", b"never")
    job.create("done", b"c", b"never")
    with pytest.raises(hotpair.NotTaken):
        job.also("work", b"missing")
    job.withdraw()
    del job  # nobody knows it any more
    job = next_of(worker)
    assert (job.key, bytes(job.value), job.attempts, len(job.messages)) == (b"a", b"", 0, 1)
    job.commit()
    assert place.pair.object("work", b"b") is None and place.pair.object("done", b"c") is None
    assert place.pair.packets() == []


def test_packets_leave_with_the_commit(place):
    place.send(b"a", b"go")
    worker = place.worker()
    job = next_of(worker)
    job.emit("out", PEER, b"first")
    job.answer("out", job.messages[0], bytearray(b"second"))
    assert place.pair.packets() == [], "not committed"
    assert job.commit_released() > 0
    assert place.pair.next_packet("out") == ("out", PEER, b"first")
    assert place.pair.next_packet("out") == ("out", PEER, b"second")


def test_letters_and_objects(place):
    place.send(b"a", b"go")
    worker = place.worker()
    with next_of(worker) as job:
        job.send("work", b"a", b"to itself")
        job.send("done", b"new", b"to a new one")
        job.create("done", b"ready", b"goes", ready=True)
        job.create("done", None, b"nameless", ready=True)
    with next_of(worker) as job:
        assert [bytes(message) for message in job.messages] == [b"to itself"]
        assert job.messages[0].source is None
    seen, others = set(), place.worker("done")
    for _ in range(3):
        with next_of(others) as job:
            seen.add((job.key, bytes(job.value), *map(bytes, job.messages)))
    assert seen == {(b"new", b"", b"to a new one"), (b"ready", b"goes"), (b"", b"nameless")}


def test_a_key_is_taken(place):
    place.send(b"a", b"go")
    worker = place.worker()
    with pytest.raises(hotpair.KeyTaken):
        with next_of(worker) as job:
            job.create("work", b"a", b"twice")  # a remote one learns it by its commit
    next_of(worker).commit()


def test_another_object_is_read_and_changed_by_the_same_commit(place):
    place.send(b"maker", b"go")
    worker = place.worker()
    with next_of(worker) as job:
        job.create("done", b"other", b"before")
        job.withdraw()
    place.send(b"a", b"go")
    with next_of(worker) as job:
        assert job.read("done", b"other") == b"before"
        assert job.read("done", b"missing") is None
        other = job.also("done", b"other")
        assert (other.key, other.value) == (b"other", b"before")
        other.set_value(b"after")
        other.stay_ready()
        assert other.value == b"after"
    assert place.value(b"other", "done") == b"after"
    with pytest.raises(hotpair.Misuse):
        other.set_value(b"too late")
    with next_of(place.worker("done")) as job:
        assert job.key == b"other"


def test_an_exception_gives_the_object_back_as_a_failed_attempt(place):
    place.send(b"a", b"go")
    worker = place.worker()
    with pytest.raises(ZeroDivisionError):
        with next_of(worker) as job:
            job.set_value(b"half")
            1 / 0
    with pytest.raises(KeyboardInterrupt):
        with next_of(worker) as job:
            assert (job.attempts, bytes(job.value), len(job.messages)) == (1, b"", 1)
            raise KeyboardInterrupt
    with next_of(worker) as job:
        assert job.attempts == 1, "an interrupt says nothing about the object"


def test_failures_count_until_the_object_is_parked(place):
    place.send(b"a", b"go")
    worker = place.worker()
    for attempt in range(5):
        job = next_of(worker)
        assert job.attempts == attempt
        job.fail()
    assert worker.claim(0) is None
    assert place.pair.object("work", b"a")["state"] == "parked"


def test_timers(place):
    place.send(b"a", b"go")
    worker = place.worker()
    with next_of(worker) as job:
        job.set_timer(3600)
        assert 3599 < job.timer <= 3600
    assert worker.claim(0) is None
    place.pair.advance(3600)
    with next_of(worker) as job:
        assert job.timer_due
        job.set_timer(3600)
        job.clear_timer()
        assert job.timer is None
        job.stay_ready()
    with next_of(worker) as job:
        assert not job.timer_due
        job.withdraw()
    assert place.pair.object("work", b"a") is None


def test_names_that_are_not_there(place):
    place.send(b"a", b"go")
    worker = place.worker()
    job = next_of(worker)
    with pytest.raises(hotpair.NoSuchName, match='no port "nowhere"'):
        job.emit("nowhere", PEER, b"")
    with pytest.raises(hotpair.NoSuchName, match='no queue "nowhere"'):
        job.send("nowhere", b"k", b"")
    job.give_back()
    with pytest.raises(hotpair.NoSuchName):
        place.worker("nowhere").claim(PATIENCE)


def test_misuse_is_an_error(place):
    place.send(b"a", b"go")
    worker = place.worker()
    job = next_of(worker)
    with pytest.raises(hotpair.Misuse, match="in hand"):
        worker.claim(0)
    job.commit()
    place.send(b"a", b"go")
    second = next_of(worker)
    for late in (lambda: job.key, lambda: job.set_value(b""), job.commit, job.give_back, lambda: job.value):
        with pytest.raises((hotpair.Misuse, BufferError)):
            late()
    second.commit()


def test_a_waiting_worker_is_stopped_and_other_threads_run_meanwhile(place):
    worker = place.worker()
    thread = threading.Thread(target=worker.stop)
    began = time.monotonic()
    ran = threading.Timer(0.05, thread.start)
    ran.start()
    assert worker.claim() is None and worker.stopped
    assert time.monotonic() - began < PATIENCE
    place.send(b"a", b"go")
    assert worker.claim(0) is None, "once stopped, always"


def test_what_is_not_bytes_is_refused(local):
    local.send(b"a", b"go")
    with next_of(local.worker()) as job:
        for wrong in ("text", 5, None, [1, 2]):
            with pytest.raises(TypeError):
                job.set_value(wrong)
        with pytest.raises(ValueError):
            job.emit("out", ("nowhere", 1), b"")
        with pytest.raises(ValueError):
            job.set_timer(-1)
        assert bytes(job.value) == b""


def test_run_commits_and_contains_exceptions(place):
    place.send(b"a", b"go")
    worker, attempts = place.worker(), []

    def handler(job):
        attempts.append(job.attempts)
        job.set_value(b"done")
        if len(attempts) < 3:
            raise RuntimeError("on purpose")
        worker.stop()

    worker.run(handler)
    assert attempts == [0, 1, 2]
    assert place.value(b"a") == b"done"


def test_a_primary_that_is_lost_loses_nothing_that_was_released(place):
    worker = place.worker()
    for number in range(20):
        place.send(b"a", b"go")
        with next_of(worker) as job:
            job.set_value(b"%d" % number)
            job.commit_released()
    place.send(b"a", b"go")
    job = next_of(worker)
    job.set_value(b"never")
    place.pair.kill_primary()
    with pytest.raises(hotpair.NotCommitted):
        job.commit()
    assert place.value(b"a") == b"19"
    if not place.remote:
        worker = place.worker()  # a remote one goes on with the other node by itself
    place.send(b"a", b"go")
    with next_of(worker) as job:
        job.set_value(b"goes on")
    assert place.value(b"a") == b"goes on"
