/* Workers of hotpair in C. Made from the library's source; the guide is docs/workers-c.md.
 *
 * Functions return 0 or more, or a negative number of errno.h; hotpair_error_text() says the rest in words.
 *
 * A worker's handle belongs to the thread that made it or has adopted it. A call by another thread ends with -EPERM and does
 * nothing; hotpair_stop and hotpair_is_stopped may be called by any. A closed handle is like freed memory.
 *
 * Pointers that are given out lead into the object's own memory; each says until when it is valid. */

#pragma once

#include <stddef.h>
#include <stdint.h>

// Longest key of an object, in bytes.
#define HOTPAIR_KEY_BYTES_MAX 128

// A port that was opened; any thread may stop it, one runs it.
typedef struct hotpair_port hotpair_port;

// A worker, and the object in its hands if it has one.
//
// It belongs to the thread that made it: calls of other threads end with `-EPERM` and change nothing, but for
// `hotpair_stop`. See `hotpair_release` for handing it to another thread.
typedef struct hotpair_worker hotpair_worker;

// Where a packet comes from or goes to.
typedef struct hotpair_address {
  // 4, 6, or 0 for no socket.
  uint8_t family;
  // 4 or 16 bytes, in network order; the rest is zero.
  uint8_t ip[16];
  // In the order of the host.
  uint16_t port;
} hotpair_address;

// What `hotpair_run` calls with each object in hand: 0 commits it, anything else gives it back as a failed attempt. The function
// must not end the object itself.
typedef int (*hotpair_handler)(struct hotpair_worker *worker, void *context);

// A message that waited for the object.
typedef struct hotpair_message {
  // Its bytes, in place: valid until the object's end.
  const uint8_t *payload;
  // How many.
  size_t length;
  // A number that no other message of the region has had.
  uint64_t id;
  // Where it came from.
  struct hotpair_address source;
} hotpair_message;

// A key that a classifier writes.
typedef struct hotpair_packet_key {
  // 1 to HOTPAIR_KEY_BYTES_MAX.
  size_t length;
  // The key.
  uint8_t bytes[HOTPAIR_KEY_BYTES_MAX];
} hotpair_packet_key;

// Names the object that a packet is for. 1: the one that bears `key`, which was written; a key that cannot be one is a counted
// drop. 0: an object of its own. Negative: nobody's, counted and dropped. Packets hold whatever somebody sent.
typedef int (*hotpair_classifier)(const uint8_t *packet,
                                  size_t length,
                                  const struct hotpair_address *source,
                                  struct hotpair_packet_key *key,
                                  void *context);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Reads `127.0.0.1:5060` or `[::1]:5060`.
int hotpair_address_parse(const char *written, struct hotpair_address *address);

// What was wrong with this thread's last call that failed, in words. Valid until the next call that fails on this thread.
const char *hotpair_error_text(void);

// Makes a worker of `queue` in the region `space` of this host, as `hotpair status` calls it.
//
// -ENOENT: there is no such region. -EPROTO: it is of another build. -ENXIO: no such queue. -EUSERS: no seat is free.
int hotpair_attach(const char *space,
                   const char *queue,
                   struct hotpair_worker **worker);

// Makes a worker of another host. `pki` is the directory with the certificate `worker`; `nodes` names both nodes and the addresses
// of their gateways: `node-a=10.0.0.1:7400,10.1.0.1:7400;node-b=10.0.0.2:7400`. `prefetch` objects are handed to it ahead,
// and a call waits for `patience_ns` for an answer; zero is the usual for either.
//
// It returns before anybody was reached: that there is no such queue says `hotpair_claim`.
int hotpair_attach_remote(const char *pki,
                          const char *nodes,
                          const char *queue,
                          uint32_t prefetch,
                          uint64_t patience_ns,
                          struct hotpair_worker **worker);

// Waits for a ready object and takes it: 1. 0: there was none in `timeout_ns`, or the worker was stopped. A negative time-out
// is none; zero looks once.
//
// -EBUSY: an object is in hand already.
int hotpair_claim(struct hotpair_worker *worker,
                  int64_t timeout_ns);

// A descriptor for `poll`, `epoll` and the like; it is the library's. It is readable when `hotpair_claim` with a time-out of zero may give
// an object: claim until it gives 0, then wait. It is also readable every 100 ms or so, by when a stop is noticed. From the first call of this on,
// such a claim of a worker of another host asks nobody: it gives what has come.
//
// -EBUSY: an object is in hand.
int hotpair_poll_fd(struct hotpair_worker *worker);

// Works until it is stopped. A commit that does not happen leaves the object ready.
int hotpair_run(struct hotpair_worker *worker, hotpair_handler handler, void *context);

// Asks a worker to stop after the object in its hands: its next claim gives 0, and so does one that waits, within 100 ms. Any thread
// and any signal handler may call this.
int hotpair_stop(const struct hotpair_worker *worker);

// 1 if the worker was asked to stop, else 0. Any thread may ask.
int hotpair_is_stopped(const struct hotpair_worker *worker);

// Lets go of a worker, so that another thread can adopt it.
int hotpair_release(struct hotpair_worker *worker);

// Makes a worker that was released this thread's. -EPERM: it is another's.
int hotpair_adopt(struct hotpair_worker *worker);

// Gives back what is in hand, leaves, and frees the handle. Of another thread's nothing is freed: -EPERM. In the child of a
// fork the parent's worker is left alone.
int hotpair_close(struct hotpair_worker *worker);

// The object's key; empty if it has none. Valid until the object's end.
int hotpair_key(struct hotpair_worker *worker, const uint8_t **key, size_t *length);

// Number of the object's slot.
int hotpair_slot(struct hotpair_worker *worker, uint32_t *slot);

// How often in a row work on this object has failed.
int hotpair_attempts(struct hotpair_worker *worker, uint32_t *attempts);

// How many messages wait. The commit consumes them.
int hotpair_message_count(struct hotpair_worker *worker);

// One of the messages, of which 0 is the oldest. -ERANGE: there are not so many.
int hotpair_message_get(struct hotpair_worker *worker,
                        size_t number,
                        struct hotpair_message *message);

// The value as it will be committed, in place. Valid until the value is set or the object ends.
int hotpair_value(struct hotpair_worker *worker, const uint8_t **value, size_t *length);

// The value, to be changed in place: `length` bytes at an address that is a multiple of 16. An empty value becomes zeros. Valid until the
// value is set or the object ends.
//
// -EBADMSG: the value has another length.
int hotpair_value_mut(struct hotpair_worker *worker,
                      size_t length,
                      uint8_t **value);

// Replaces the value; its length may change. `value` may not lie in the old one.
int hotpair_set_value(struct hotpair_worker *worker, const uint8_t *value, size_t length);

// Copies the committed value of another object into `buffer`, without claiming it: 1. 0: there is none. `length` is set to its length;
// -ERANGE: `capacity` is less.
int hotpair_read(struct hotpair_worker *worker,
                 const char *queue,
                 const uint8_t *key,
                 size_t key_length,
                 uint8_t *buffer,
                 size_t capacity,
                 size_t *length);

// Sends a packet through `port` when the commit is released. -ENXIO: no such port.
int hotpair_emit(struct hotpair_worker *worker,
                 const char *port,
                 const struct hotpair_address *to,
                 const uint8_t *payload,
                 size_t length);

// Sends a message with the commit to the object of `queue` that bears the key, or to a new one.
int hotpair_send(struct hotpair_worker *worker,
                 const char *queue,
                 const uint8_t *key,
                 size_t key_length,
                 const uint8_t *payload,
                 size_t length);

// Creates an object with the commit; without a key if `key` is NULL. It is idle until it gets a message, or, if `ready` is not zero, ready at
// once. -EEXIST: the key is another object's.
int hotpair_create(struct hotpair_worker *worker,
                   const char *queue,
                   const uint8_t *key,
                   size_t key_length,
                   const uint8_t *value,
                   size_t length,
                   int ready);

// Puts the object into another priority lane from the commit on; 0 is the most urgent.
int hotpair_set_priority(struct hotpair_worker *worker, uint8_t priority);

// Ends the object with the commit.
int hotpair_withdraw(struct hotpair_worker *worker);

// Makes the object ready again after so many nanoseconds; replaces the timer it has.
int hotpair_set_timer(struct hotpair_worker *worker, uint64_t after_ns);

// Stops the timer.
int hotpair_clear_timer(struct hotpair_worker *worker);

// 1 and the time left on the timer as it will be committed, or 0: there is none.
int hotpair_timer(struct hotpair_worker *worker, uint64_t *left_ns);

// 1 if the timer is due, else 0. A commit that does not set it anew clears it.
int hotpair_timer_due(struct hotpair_worker *worker);

// Makes the object ready again right after the commit.
int hotpair_stay_ready(struct hotpair_worker *worker);

// Does all that was asked for in one step, or nothing. `seq`, if it is not NULL, becomes the commit's position. Either way the object is in
// hand no more.
//
// Nothing has happened and the object is ready again, after -ESTALE: the node is no primary any more; -EAGAIN: a message came for the
// object that was to be withdrawn; -EEXIST: a key was taken meanwhile; -EBUSY: others were in the way; -ENOBUFS: earlier commits
// were not gathered; -E2BIG: it has too many steps; -ENOSPC: no room; -ECONNRESET: the server was lost. After -ETIMEDOUT, of remote
// workers, it is not known whether it has happened.
int hotpair_commit(struct hotpair_worker *worker,
                   uint64_t *seq);

// The same, and returns when the back-up holds the commit. -ETIME: it happened, and was not released within 10 seconds.
int hotpair_commit_released(struct hotpair_worker *worker,
                            uint64_t *seq);

// Gives the object back as it was.
int hotpair_give_back(struct hotpair_worker *worker);

// Gives the object back as a failed attempt; after `max_attempts` in a row it is parked.
int hotpair_fail(struct hotpair_worker *worker);

// Takes the object of `queue` that bears the key into the same commit; gives the number by which it is called from now on. Tries and never
// waits.
//
// -EAGAIN: another worker has it; give back what is in hand, it is offered again after a pause. -ENOENT: there is none. -EDEADLK: it is in
// hand already. -EHOSTDOWN: it is parked. -E2BIG: a commit takes no more.
int hotpair_also(struct hotpair_worker *worker,
                 const char *queue,
                 const uint8_t *key,
                 size_t key_length);

// Number of its slot.
int hotpair_other_slot(struct hotpair_worker *worker, int other, uint32_t *slot);

// Its key. Valid until the object in hand ends.
int hotpair_other_key(struct hotpair_worker *worker,
                      int other,
                      const uint8_t **key,
                      size_t *length);

// Its value as it will be committed. Valid until it is set, or the object in hand ends.
int hotpair_other_value(struct hotpair_worker *worker,
                        int other,
                        const uint8_t **value,
                        size_t *length);

// Replaces its value.
int hotpair_other_set_value(struct hotpair_worker *worker,
                            int other,
                            const uint8_t *value,
                            size_t length);

// See `hotpair_set_timer`.
int hotpair_other_set_timer(struct hotpair_worker *worker, int other, uint64_t after_ns);

// See `hotpair_clear_timer`.
int hotpair_other_clear_timer(struct hotpair_worker *worker, int other);

// See `hotpair_stay_ready`.
int hotpair_other_stay_ready(struct hotpair_worker *worker, int other);

// See `hotpair_set_priority`.
int hotpair_other_set_priority(struct hotpair_worker *worker, int other, uint8_t priority);

// Ends it with the commit, which is refused if a message waits for it.
int hotpair_other_withdraw(struct hotpair_worker *worker, int other);

// Opens the port called `port` of the region `space`: packets that come by `socket` (`IP:PORT`, `holder:PATH#NAME` or `fd:NUMBER`) are
// messages to objects of `queue`, and what commits emit leaves by it.
int hotpair_port_open(const char *space,
                      const char *port,
                      const char *queue,
                      const char *socket,
                      struct hotpair_port **opened);

// Serves until the port is stopped. `classify` is called on this thread.
int hotpair_port_run(const struct hotpair_port *port,
                     hotpair_classifier classify,
                     void *context);

// Asks a port to stop. Any thread may call this.
int hotpair_port_stop(const struct hotpair_port *port);

// Frees a port that nobody runs any more.
int hotpair_port_close(struct hotpair_port *port);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus
