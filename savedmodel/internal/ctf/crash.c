#include "api.h"

#include <signal.h>
#include <stddef.h>

static uint32_t* volatile crashes;
static struct sigaction before[NSIG];

// Adds one, calls the previous handler, and subtracts one if that returns: then
// the process survives. Go's handler returns for a fault that it turns into a
// panic. It does not return from a fatal fault, which so stays counted. Atomic
// arithmetic is allowed in a signal handler.
static void on_crash(int signal_number, siginfo_t* info, void* context) {
  uint32_t* count = crashes;
  if (count != NULL) __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
  struct sigaction* next = &before[signal_number];
  if (next->sa_flags & SA_SIGINFO) {
    next->sa_sigaction(signal_number, info, context);
  } else if (next->sa_handler == SIG_DFL) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return;  // the signal now ends the process
  } else if (next->sa_handler != SIG_IGN) {
    next->sa_handler(signal_number);
  }
  if (count != NULL) __atomic_fetch_sub(count, 1, __ATOMIC_SEQ_CST);
}

void ctf_count_crashes(uint32_t* count) {
  static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
  static int installed;
  crashes = count;
  if (installed) return;
  installed = 1;
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
    struct sigaction ours;
    if (sigaction(fatal[i], NULL, &before[fatal[i]]) != 0) continue;
    ours = before[fatal[i]];  // keeps the mask
    ours.sa_sigaction = on_crash;
    // Go's stacks are small, so handlers need a stack of their own.
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigaction(fatal[i], &ours, NULL);
  }
}
