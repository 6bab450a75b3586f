/* Claims, changes and commits one object as often as a line of its input says; answers with the nanoseconds. */
#include <hotpair.h>
#include <stdio.h>
#include <time.h>

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int main(int argc, char **argv) {
  hotpair_worker *worker;
  long count;
  if (argc != 3 || hotpair_attach(argv[1], argv[2], &worker) < 0) return 1;
  while (scanf("%ld", &count) == 1) {
    uint64_t begun = now();
    for (long at = 0; at < count; at++) {
      uint8_t *value;
      if (hotpair_claim(worker, 0) != 1) return 2;
      if (hotpair_value_mut(worker, 8, &value) < 0) return 3;
      ++*(uint64_t *)value;
      hotpair_stay_ready(worker);
      if (hotpair_commit(worker, NULL) < 0) return 4;
    }
    printf("%llu\n", (unsigned long long)(now() - begun));
    fflush(stdout);
  }
  return 0;
}
