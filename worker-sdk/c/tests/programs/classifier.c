/* A port whose classifier reads the key up to the first space: classifier SPACE PORT QUEUE SOCKET.
 * Serves until its input ends. */
#include <assert.h>
#include <hotpair.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int classify(const uint8_t *packet, size_t length, const hotpair_address *source,
                    hotpair_packet_key *key, void *context) {
  assert(source->family == 4 && source->port != 0);
  ++*(int *)context;
  const uint8_t *end = memchr(packet, ' ', length);
  if (end == NULL) return -1;
  size_t bytes = (size_t)(end - packet);
  if (bytes > sizeof key->bytes) {
    key->length = bytes; /* a counted drop, not an overrun */
    return 1;
  }
  memcpy(key->bytes, packet, bytes);
  key->length = bytes;
  return 1;
}

static void *wait_for_end(void *port) {
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  hotpair_port_stop(port);
  return NULL;
}

int main(int argc, char **argv) {
  assert(argc == 5);
  hotpair_port *port = NULL;
  int asked = 0;
  assert(hotpair_port_open(argv[1], argv[2], argv[3], "nowhere", &port) < 0 && port == NULL);
  assert(hotpair_port_open(argv[1], argv[2], argv[3], argv[4], &port) == 0);
  pthread_t thread;
  assert(pthread_create(&thread, NULL, wait_for_end, port) == 0);
  int ended = hotpair_port_run(port, classify, &asked);
  if (ended < 0) fprintf(stderr, "%s\n", hotpair_error_text());
  assert(pthread_join(thread, NULL) == 0);
  hotpair_port_close(port);
  printf("classified %d\n", asked);
  return ended < 0;
}
