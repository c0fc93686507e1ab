// Calls that Swift's Glibc module does not import because they are GNU extensions.
#define _GNU_SOURCE
#include <sched.h>
#include "ckernels.h"

int ck_available_cores(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  int count = CPU_COUNT(&set);
  return count > 0 ? count : 1;
}
