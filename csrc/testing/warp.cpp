#include "warp.h"

namespace lisa_host {

Collective& gathering(Warp& warp, const char* operation, uint32_t mask, const Location& where) {
  const uint32_t mine = 1u << current->lane;
  if (!(mask & mine)) {
    fail("wrong sync mask", std::string(operation) + " with mask " + hexadecimal(mask) + " by lane " +
                                std::to_string(current->lane) + ", which the mask leaves out, " + place(where));
  }
  Collective* unused = nullptr;
  for (Collective& open : warp.collectives) {
    if (!open.mask) unused = &open;
    if (open.mask != mask || open.unread || open.arrived & mine) continue;
    if (std::strcmp(open.operation, operation) != 0) {
      fail("divergent warp", std::string(operation) + ", " + place(where) + ", while other lanes of its mask " +
                                 hexadecimal(mask) + " are at " + open.operation);
    }
    return open;
  }
  Collective& opened = unused ? *unused : warp.collectives.emplace_back();
  opened.mask = mask;
  opened.arrived = opened.unread = opened.predicates = 0;
  opened.operation = operation;
  return opened;
}

}  // namespace lisa_host
