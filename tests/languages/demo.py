"""The demo's worker in Python: applies each request once and answers with the object's history. src/demo/wire.rs has the layouts."""

import os
import struct
import time

import hotpair

REQUEST = struct.Struct("<4sIQQ")  # magic, object, number, nonce
ANSWER = struct.Struct("<4sIQQQIB3x")  # magic, object, number, count, hash, pid, side
STATE = struct.Struct("<QQQ")  # count, hash, number applied last
KEYLESS = 0xFFFF_FFFF
WORD = 0xFFFF_FFFF_FFFF_FFFF


def worker():
    queue = os.environ["HOTPAIR_QUEUE"]
    if nodes := os.environ.get("HOTPAIR_NODES"):
        return hotpair.attach_remote(os.environ["HOTPAIR_PKI"], nodes, queue), "?"
    region = os.environ["HOTPAIR_REGION"]
    while True:
        try:
            return hotpair.attach(region, queue), region[-1]
        except hotpair.Error:  # the node builds it meanwhile; the supervisor ends us if it never does
            time.sleep(0.01)


def after(hash, number, nonce):
    hash = (hash << 17 | hash >> 47) & WORD
    hash ^= number * 0x9E37_79B9_7F4A_7C15 & WORD ^ nonce
    hash = (hash ^ hash >> 30) * 0xBF58_476D_1CE4_E5B9 & WORD
    hash = (hash ^ hash >> 27) * 0x94D0_49BB_1331_11EB & WORD
    return hash ^ hash >> 31


def serve(job):
    requests = []
    for message in job.messages:
        if len(message.payload) == REQUEST.size and message.source is not None:
            magic, *rest = REQUEST.unpack(message.payload)
            if magic == b"HPq1":
                requests.append((message, *rest))
    keyless = not job.key or any(object == KEYLESS for _, object, _, _ in requests)
    for message, object, number, nonce in requests:
        value = bytearray(STATE.size) if keyless else job.value_mut(STATE.size)
        count, hash, last = STATE.unpack(value)
        if number > last:
            count, hash, last = count + 1, after(hash, number, nonce), number
            STATE.pack_into(value, 0, count, hash, last)
        if number == last:
            answer = ANSWER.pack(b"HPa1", object, number, count, hash, os.getpid(), ord(side))
            job.answer("service", message, answer)
    if keyless:
        job.withdraw()


hand, side = worker()
hand.run(serve)
