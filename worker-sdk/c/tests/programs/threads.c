/* Whose a handle is: threads, and the child of a fork. threads SPACE QUEUE; one object is ready. */
#include <assert.h>
#include <errno.h>
#include <hotpair.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static hotpair_worker *worker;

static void *stranger(void *unused) {
  (void)unused;
  size_t length;
  assert(hotpair_key(worker, NULL, &length) == -EPERM);
  assert(strstr(hotpair_error_text(), "another thread") != NULL);
  assert(hotpair_set_value(worker, (const uint8_t *)"never", 5) == -EPERM);
  assert(hotpair_commit(worker, NULL) == -EPERM);
  assert(hotpair_claim(worker, 0) == -EPERM);
  assert(hotpair_adopt(worker) == -EPERM);
  assert(hotpair_release(worker) == -EPERM);
  assert(hotpair_close(worker) == -EPERM); /* and nothing is freed */
  return NULL;
}

static void *heir(void *unused) {
  (void)unused;
  size_t length = 0;
  assert(hotpair_key(worker, NULL, &length) == -EPERM); /* of nobody, and not adopted */
  assert(hotpair_adopt(worker) == 0);
  assert(hotpair_key(worker, NULL, &length) == 0 && length == 1);
  assert(hotpair_commit(worker, NULL) == 0);
  assert(hotpair_release(worker) == 0);
  return NULL;
}

static void *stopper(void *unused) {
  (void)unused;
  assert(hotpair_stop(worker) == 0);
  return NULL;
}

static void run(void *(*body)(void *)) {
  pthread_t thread;
  assert(pthread_create(&thread, NULL, body, NULL) == 0);
  assert(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv) {
  assert(argc == 3);
  assert(hotpair_attach(argv[1], argv[2], &worker) == 0);
  assert(hotpair_claim(worker, -1) == 1);
  run(stranger);

  pid_t child = fork();
  if (child == 0) {
    /* Same thread, other process: the seat and the object are the parent's. */
    if (hotpair_set_value(worker, (const uint8_t *)"never", 5) != -EPERM) _exit(1);
    if (strstr(hotpair_error_text(), "fork") == NULL) _exit(2);
    if (hotpair_commit(worker, NULL) != -EPERM) _exit(3);
    if (hotpair_close(worker) != 0) _exit(4); /* only this copy of the handle goes */
    _exit(0);
  }
  int status = 0;
  assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

  assert(hotpair_release(worker) == 0);
  run(heir);
  assert(hotpair_adopt(worker) == 0);
  assert(hotpair_is_stopped(worker) == 0);
  run(stopper);
  assert(hotpair_claim(worker, -1) == 0 && hotpair_is_stopped(worker) == 1);
  assert(hotpair_close(worker) == 0);
  puts("done");
  return 0;
}
