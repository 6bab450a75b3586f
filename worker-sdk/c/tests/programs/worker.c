/* A worker: counts the messages of each object, answers each, tells another object, and looks again later.
 * worker SPACE QUEUE MESSAGES */
#include <assert.h>
#include <errno.h>
#include <hotpair.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counter {
  uint64_t messages;
};

static void check(int result, const char *what) {
  if (result < 0) {
    fprintf(stderr, "%s: %d: %s\n", what, result, hotpair_error_text());
    exit(1);
  }
}

/* What is refused, and how: nothing of it changes the object. */
static void misuse(hotpair_worker *worker) {
  hotpair_message message;
  hotpair_address nowhere = {0};
  size_t length;
  void *place;
  assert(hotpair_claim(worker, 0) == -EBUSY);
  assert(hotpair_message_get(worker, 100, &message) == -ERANGE);
  assert(hotpair_emit(worker, "out", &nowhere, (const uint8_t *)"x", 1) == -EINVAL);
  assert(hotpair_emit(worker, NULL, &nowhere, (const uint8_t *)"x", 1) == -EINVAL);
  assert(hotpair_set_value(worker, NULL, 3) == -EINVAL);
  assert(hotpair_key(NULL, NULL, &length) == -EINVAL);
  assert(hotpair_also(worker, "work", (const uint8_t *)"missing", 7) == -ENOENT);
  assert(hotpair_other_withdraw(worker, 0) == -EINVAL);
  assert(hotpair_other_withdraw(worker, -1) == -EINVAL);
  assert(hotpair_send(worker, "nowhere", (const uint8_t *)"k", 1, NULL, 0) == -ENXIO);
  assert(strstr(hotpair_error_text(), "\"nowhere\"") != NULL);
  (void)place;
}

static void serve(hotpair_worker *worker) {
  uint8_t *bytes;
  check(hotpair_value_mut(worker, sizeof(struct counter), &bytes), "the value");
  struct counter *counter = (struct counter *)bytes;
  int count = hotpair_message_count(worker);
  check(count, "the messages");
  for (int at = 0; at < count; at++) {
    hotpair_message message;
    check(hotpair_message_get(worker, (size_t)at, &message), "a message");
    counter->messages++;
    char answer[256];
    int length = snprintf(answer, sizeof answer, "%llu %.*s", (unsigned long long)counter->messages,
                          (int)message.length, (const char *)message.payload);
    check(hotpair_emit(worker, "out", &message.source, (const uint8_t *)answer, (size_t)length), "emit");
  }
  const uint8_t *key;
  size_t key_length;
  check(hotpair_key(worker, &key, &key_length), "the key");
  check(hotpair_send(worker, "log", key, key_length, (const uint8_t *)"served", 6), "send");
  check(hotpair_set_timer(worker, 3600ull * 1000000000ull), "the timer");
  uint64_t left;
  assert(hotpair_timer(worker, &left) == 1 && left > 3599ull * 1000000000ull);
}

int main(int argc, char **argv) {
  assert(argc == 4);
  int wanted = atoi(argv[3]);
  hotpair_worker *worker = NULL;
  assert(hotpair_attach("no.such.region", argv[2], &worker) == -ENOENT && worker == NULL);
  assert(hotpair_attach(argv[1], "no such queue", &worker) == -ENXIO && worker == NULL);
  check(hotpair_attach(argv[1], argv[2], &worker), "attach");
  assert(hotpair_commit(worker, NULL) == -EBADFD);

  /* Once given back, once failed, and then it is there again. */
  assert(hotpair_claim(worker, -1) == 1);
  misuse(worker);
  check(hotpair_set_value(worker, (const uint8_t *)"never", 5), "set");
  check(hotpair_give_back(worker), "give back");
  assert(hotpair_claim(worker, -1) == 1);
  check(hotpair_fail(worker), "fail");

  int served = 0;
  struct pollfd readable = {.fd = hotpair_poll_fd(worker), .events = POLLIN};
  check(readable.fd, "the descriptor");
  while (served < wanted) {
    int claimed = hotpair_claim(worker, 0);
    check(claimed, "claim");
    if (!claimed) {
      assert(poll(&readable, 1, -1) == 1);
      continue;
    }
    assert(hotpair_poll_fd(worker) == readable.fd);
    int count = hotpair_message_count(worker);
    serve(worker);
    uint64_t seq = 0;
    int result = hotpair_commit_released(worker, &seq);
    check(result, "commit");
    assert(seq > 0);
    served += count;
  }
  /* What is in hand when it leaves is given back. */
  if (hotpair_claim(worker, 0) == 1) check(hotpair_set_value(worker, (const uint8_t *)"never", 5), "set");
  check(hotpair_close(worker), "close");
  printf("served %d\n", served);
  return 0;
}
