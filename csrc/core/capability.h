// Which of the builds of a CPU kernel runs on this machine.
#pragma once

namespace lisa {

enum class Capability : int { kBaseline, kAvx2, kAvx512, kAvx512Bf16 };

// The widest capability of this machine.
Capability widest_capability();
// The one in use: the widest, unless a narrower one was set.
Capability cpu_capability();
// Returns false where the machine does not have it.
bool set_cpu_capability(Capability capability);

}  // namespace lisa
