#include "barrier.h"

namespace lisa_host {

int block_barrier(const char* name, int predicate, const Location& where) {
  Block& block = *current->block;
  Barrier& barrier = block.barrier;
  if (barrier.arrived == 0) barrier.where = where;
  if (barrier.where.line() != where.line() || std::strcmp(barrier.where.file_name(), where.file_name()) != 0) {
    fail("divergent barrier",
         "some threads wait at " + place(barrier.where) + " and this one comes to " + place(where));
  }
  barrier.predicate_sum += predicate;
  if (++barrier.arrived < block.alive) {
    wait_at(name, where);
    return barrier.last_sum;
  }
  open_barrier(block);
  return barrier.last_sum;
}

}  // namespace lisa_host
