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

// glibc gives threads up to eight arenas a processor, and each arena keeps
// pages that no other may use: with the threads of every session that comes
// and goes, memory would rise until all arenas are there. A few do; one alone
// was measured to cost runs 2 % of their time. MALLOC_ARENA_MAX, which glibc
// reads itself, has the last word. A constructor, since the first threads of
// Go's runtime would have an arena each already.
__attribute__((constructor)) static void limit_arenas(void) {
#ifdef __GLIBC__
  if (getenv("MALLOC_ARENA_MAX") != NULL) return;
  long arenas = sysconf(_SC_NPROCESSORS_ONLN) / 4;
  mallopt(M_ARENA_MAX, arenas < 2 ? 2 : (int)arenas);
#endif
}

char* ctf_open(const char* path) {
  // Lazy: the library has far more relocations than we have calls.
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
  // One that lacks some stays open all the same: what it has left to be done
  // at the end of the process must still be there then.
  if (missing > 0) return strdup(names);
  ctf_table = table;
  return NULL;
}

void ctf_trim(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}
