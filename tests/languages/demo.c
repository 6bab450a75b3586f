/* The demo's worker in C: applies each request once and answers with the object's history. src/demo/wire.rs has the layouts. */
#include <errno.h>
#include <hotpair.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEYLESS UINT32_MAX

struct request {
  char magic[4];
  uint32_t object;
  uint64_t number, nonce;
};

struct answer {
  char magic[4];
  uint32_t object;
  uint64_t number, count, hash;
  uint32_t pid;
  uint8_t side, zero[3];
};

struct state {
  uint64_t count, hash, last;
};

static uint8_t side = '?';

static uint64_t after(uint64_t hash, uint64_t number, uint64_t nonce) {
  hash = (hash << 17 | hash >> 47) ^ number * 0x9e3779b97f4a7c15 ^ nonce;
  hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
  return hash ^ hash >> 31;
}

/* Whether the message is a request, which is copied. */
static int request_of(const hotpair_message *message, struct request *request) {
  if (message->length != sizeof *request || message->source.family == 0) return 0;
  memcpy(request, message->payload, sizeof *request);
  return memcmp(request->magic, "HPq1", 4) == 0;
}

static int serve(hotpair_worker *worker, void *context) {
  (void)context;
  const uint8_t *key;
  size_t key_length;
  int count = hotpair_message_count(worker);
  if (count < 0 || hotpair_key(worker, &key, &key_length) < 0) return -1;
  int keyless = key_length == 0;
  hotpair_message message;
  struct request request;
  for (int at = 0; at < count; at++) {
    if (hotpair_message_get(worker, at, &message) < 0) return -1;
    keyless |= request_of(&message, &request) && request.object == KEYLESS;
  }
  for (int at = 0; at < count; at++) {
    if (hotpair_message_get(worker, at, &message) < 0) return -1;
    if (!request_of(&message, &request)) continue;
    struct state passing = {0}, *state = &passing;
    uint8_t *value;
    if (!keyless) {
      if (hotpair_value_mut(worker, sizeof *state, &value) < 0) return -1;
      state = (struct state *)value;
    }
    if (request.number > state->last) {
      state->count++;
      state->hash = after(state->hash, request.number, request.nonce);
      state->last = request.number;
    }
    if (request.number < state->last) continue; /* the client has had the answer */
    struct answer answer = {.magic = "HPa1", .object = request.object, .number = request.number, .count = state->count,
                            .hash = state->hash, .pid = (uint32_t)getpid(), .side = side};
    if (hotpair_emit(worker, "service", &message.source, (uint8_t *)&answer, sizeof answer) < 0) return -1;
  }
  return keyless ? hotpair_withdraw(worker) : 0;
}

static int attach(hotpair_worker **worker) {
  const char *queue = getenv("HOTPAIR_QUEUE"), *region = getenv("HOTPAIR_REGION");
  const char *nodes = getenv("HOTPAIR_NODES");
  if (nodes) return hotpair_attach_remote(getenv("HOTPAIR_PKI"), nodes, queue, 0, 0, worker);
  if (!queue || !region || !*region) return -EINVAL;
  side = (uint8_t)region[strlen(region) - 1];
  int attached;
  /* The node builds it meanwhile; the supervisor ends us if it never does. */
  while ((attached = hotpair_attach(region, queue, worker)) == -ENOENT) {
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  return attached;
}

int main(void) {
  hotpair_worker *worker;
  if (attach(&worker) < 0 || hotpair_run(worker, serve, NULL) < 0) {
    fprintf(stderr, "%s\n", hotpair_error_text());
    return 1;
  }
  return 0;
}
