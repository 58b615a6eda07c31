// The far end of module npu_serial's line. Reads records from stdin: 0, count, bytes to send; or 1, 0
// for a break. Writes what comes back to stdout. Sleeps while the line and the NPU are idle.
#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <deque>

#include "Vdut.h"

constexpr int BIT = 8;            // CLOCKS_PER_BIT
constexpr int BREAK_BITS = 12;
constexpr int QUIET = 40 * BIT;   // clocks without a bit on the line before sleeping

static Vdut dut;

static bool take(void* data, size_t size) {
  for (size_t have = 0; have < size;) {
    const ssize_t got = read(0, static_cast<char*>(data) + have, size - have);
    if (got <= 0) return false;
    have += got;
  }
  return true;
}

int main() {
  std::deque<bool> out;           // bits to send, oldest first
  int sending = 0, receiving = -1, quiet = 0;
  unsigned byte = 0;
  dut.rx = 1;
  dut.reset = 1;
  for (uint64_t clock = 0;; clock++) {
    dut.clk = 0;
    dut.eval();
    dut.clk = 1;
    dut.eval();
    if (clock == 8) dut.reset = 0;
    // to the NPU
    if (sending > 0) {
      sending--;
    } else if (!out.empty()) {
      dut.rx = out.front();
      out.pop_front();
      sending = BIT - 1;
      quiet = 0;
    }
    // from it: the middle of each bit
    if (receiving < 0) {
      if (!dut.tx) receiving = 0, byte = 0;
    } else if (receiving == 9 * BIT + BIT / 2) {
      const uint8_t whole = byte;
      if (write(1, &whole, 1) != 1) return 1;
      receiving = -1;
    } else {
      const int bit = receiving / BIT;
      if (receiving % BIT == BIT / 2 && bit >= 1 && bit <= 8 && dut.tx) byte |= 1u << (bit - 1);
      receiving++;
    }
    if (receiving >= 0 || dut.busy) quiet = 0;
    quiet++;
    if (!out.empty() || sending > 0) continue;
    const bool idle = quiet > QUIET;
    if (!idle && clock % 64 != 0) continue;
    pollfd input{0, POLLIN, 0};
    if (poll(&input, 1, idle ? -1 : 0) <= 0) continue;
    uint8_t head[2], data[255];
    if (!take(head, 2) || !take(data, head[1])) return 0;
    if (head[0] == 1)
      for (int bit = 0; bit < BREAK_BITS + BIT; bit++) out.push_back(bit >= BREAK_BITS);
    for (int k = 0; k < head[1]; k++) {
      out.push_back(false);
      for (int bit = 0; bit < 8; bit++) out.push_back(data[k] >> bit & 1);
      out.push_back(true);
    }
    quiet = 0;
  }
}
