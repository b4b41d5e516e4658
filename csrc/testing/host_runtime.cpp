// All that is compiled once and linked into every library; one file, since parsing the headers takes most of the time.
#include "barrier.cpp"
#include "block.cpp"
#include "exports.cpp"
#include "launch.cpp"
#include "run_on_fibers.cpp"
#include "runtime.cpp"
#include "shared_arena.cpp"
#include "warp.cpp"
