#include "api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#include <unistd.h>
#endif

struct ctf_table ctf_table;

// Bounds glibc's arenas. By default threads get up to eight arenas a processor,
// and each arena keeps its free pages: memory would grow with the threads of
// every new session until all arenas exist. A few arenas are enough; a single
// one makes runs 2 % slower. MALLOC_ARENA_MAX, which glibc reads itself, takes
// precedence. This is a constructor, because the first threads of Go's runtime
// would each have an arena otherwise.
__attribute__((constructor)) static void limit_arenas(void) {
#ifdef __GLIBC__
  if (getenv("MALLOC_ARENA_MAX") != NULL) return;
  long arenas = sysconf(_SC_NPROCESSORS_ONLN) / 4;
  mallopt(M_ARENA_MAX, arenas < 2 ? 2 : (int)arenas);
#endif
}

char* ctf_open(const char* path) {
  // Lazy, because we call few of the library's many functions.
  void* lib = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (lib == NULL) return strdup(dlerror());

  struct ctf_table table;
  size_t missing = 0;
  char names[1024] = "missing symbols:";
#define X(result, name, parameters, arguments)                        \
  *(void**)&table.name = dlsym(lib, "TF_" #name);                     \
  if (table.name == NULL) {                                           \
    missing++;                                                        \
    size_t used = strlen(names);                                      \
    snprintf(names + used, sizeof names - used, " TF_" #name);        \
  }
  CTF_FUNCTIONS(X)
#undef X
  // A library with missing symbols stays open: its exit handlers must still be
  // in memory when the process ends.
  if (missing > 0) return strdup(names);
  ctf_table = table;
  return NULL;
}

void ctf_trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}
