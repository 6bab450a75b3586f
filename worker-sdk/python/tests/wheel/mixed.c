/* Adds the messages of each object to what it counts, until it is killed: mixed SPACE QUEUE. One of three; see mixed.rs. */
#include <hotpair.h>
#include <stdio.h>

struct counts {
  uint64_t messages, python, c, rust;
};

static int serve(hotpair_worker *worker, void *context) {
  uint8_t *value;
  int messages = hotpair_message_count(worker);
  (void)context;
  if (messages < 0 || hotpair_value_mut(worker, sizeof(struct counts), &value) < 0) return -1;
  struct counts *counts = (struct counts *)value;
  counts->messages += (uint64_t)messages;
  counts->c++;
  return 0;
}

int main(int argc, char **argv) {
  hotpair_worker *worker;
  if (argc != 3 || hotpair_attach(argv[1], argv[2], &worker) < 0) {
    fprintf(stderr, "%s\n", hotpair_error_text());
    return 1;
  }
  return hotpair_run(worker, serve, NULL) < 0;
}
