// Wild pointers, stack overflows, integer division by zero and endless loops of a kernel as faults of the launch.
#pragma once
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "block.h"
#include "guarded_memory.h"
#include "sanitizers.h"

namespace lisa_host {

inline constinit thread_local int caught_signal = 0;
inline constinit thread_local const void* caught_address = nullptr;

// Ignored by default: one that arrives late does nothing.
constexpr int kTimeIsUp = SIGURG;

inline void fail_after_signal() {
  if (caught_signal == kTimeIsUp) {
    fail("hang", "the launch takes longer than " + std::to_string(state.limit_s) + " s");
  }
  if (caught_signal == SIGFPE) fail("undefined behaviour", "an integer division by zero or one that overflows");
  const char* address = static_cast<const char*>(caught_address);
  const char* stack = current->stack;
  const bool overflow = address < stack && address >= stack - sysconf(_SC_PAGESIZE);
  if (overflow)
    fail("stack overflow", "a thread uses more than " + std::to_string(kStackBytes >> 10) + " KiB of stack");
  if (const std::string position = guarded.position(address); !position.empty()) {
    fail("out of bounds", "access to " + position);
  }
  char text[32];
  std::snprintf(text, sizeof text, "%p", caught_address);
  fail("out of bounds", std::string("access to address ") + text + ", which no memory has");
}

// Sends the thread on to fail_after_signal instead of back to the instruction.
inline void on_signal(int signal, siginfo_t* info, void* context) {
  if (!current) {  // not ours: take the default action when the instruction is tried again
    if (signal != kTimeIsUp) ::signal(signal, SIG_DFL);
    return;
  }
  caught_signal = signal;
  caught_address = info->si_addr;
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  // The top of the fiber's stack: what stood there is abandoned with the thread.
  registers[REG_RSP] = reinterpret_cast<greg_t>(current->stack + kStackBytes - 128 - 8);
  registers[REG_RIP] = reinterpret_cast<greg_t>(fail_after_signal);
}

// The handlers, for the time of a launch.  AddressSanitizer has better ones.
class SignalHandlers {
 public:
  SignalHandlers() {
    if (LISA_HOST_ASAN) return;
    struct sigaction action{};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < kCount; i++) sigaction(kSignals[i], &action, &previous_[i]);
  }
  ~SignalHandlers() {
    if (LISA_HOST_ASAN) return;
    for (int i = 0; i < kCount; i++) sigaction(kSignals[i], &previous_[i], nullptr);
  }
  SignalHandlers(const SignalHandlers&) = delete;

 private:
  static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, kTimeIsUp};
  static constexpr int kCount = 4;
  struct sigaction previous_[kCount];
};

// A stack for the handler: that of a fiber may be the one that ran out.
class SignalStack {
 public:
  SignalStack() {
    if (LISA_HOST_ASAN) return;
    stack_t mine{};
    mine.ss_sp = memory_;
    mine.ss_size = sizeof memory_;
    sigaltstack(&mine, &previous_);
  }
  ~SignalStack() {
    if (!LISA_HOST_ASAN) sigaltstack(&previous_, nullptr);
  }
  SignalStack(const SignalStack&) = delete;

 private:
  char memory_[16 << 10];
  stack_t previous_{};
};

// Ends this OS thread's part of the launch when its time is up; under AddressSanitizer the caller ends the process.
class Watchdog {
 public:
  Watchdog() {
    if (LISA_HOST_ASAN) return;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kTimeIsUp;
    event._sigev_un._tid = gettid();
    // Again every second: between two fibers there is nothing to end.
    const itimerspec times{{1, 0}, {state.limit_s, 0}};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer_) || timer_settime(timer_, 0, &times, nullptr)) {
      die("no timer for the time limit of a launch");
    }
  }
  ~Watchdog() {
    if (!LISA_HOST_ASAN) timer_delete(timer_);
  }
  Watchdog(const Watchdog&) = delete;

 private:
  timer_t timer_{};
};

}  // namespace lisa_host
