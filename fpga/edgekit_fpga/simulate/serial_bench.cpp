// Module npu_serial or npu_compact_serial as a process: the host's end of its line, bit by bit.
//
// stdin: records of a kind, a count and so many bytes; kind 0 sends the bytes, kind 1 (count 0) holds
// the line low for a break. stdout: the bytes that come back. The clock stands still while neither
// the line nor the NPU has anything to do.
#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "Vdut.h"

static const int BIT = 8;          // clocks, as the module's CLOCKS_PER_BIT
static const int FRAME = 10 * BIT; // start, eight bits, stop
static const int LINGER = 4 * FRAME;

static Vdut dut;

// Whether the board asks for a pause; a board without that wire never does.
template <class Board>
static auto paused(Board& board, int) -> decltype(bool(board.rts_n)) {
  return board.rts_n;
}
template <class Board>
static bool paused(Board&, long) {
  return false;
}

// What to do with the line, oldest first: levels, each for one bit.
struct Sender {
  std::vector<bool> levels;
  size_t next = 0;
  int left = 0;
  int pause = 0;  // bits of the byte under way, which a pause does not cut

  bool idle() const { return left == 0 && next == levels.size(); }
  void add(uint8_t byte) {
    levels.push_back(false);
    for (int bit = 0; bit < 8; bit++) levels.push_back(byte >> bit & 1);
    levels.push_back(true);
  }
  void add_break() {
    levels.insert(levels.end(), 16, false);
    levels.insert(levels.end(), 4, true);
  }
  void step() {
    if (left > 0) {
      left--;
    } else if (next < levels.size() && pause == 0 && paused(dut, 0)) {
      return;
    } else if (next < levels.size()) {
      pause = pause == 0 ? 9 : pause - 1;
      dut.rx = levels[next++];
      left = BIT - 1;
    } else {
      levels.clear();
      next = 0;
    }
  }
};

// Samples each bit in its middle.
struct Receiver {
  int clock = -1;
  unsigned bits = 0;

  void step() {
    if (clock < 0) {
      if (!dut.tx) clock = 0, bits = 0;
      return;
    }
    if (++clock % BIT == BIT / 2) bits |= unsigned(dut.tx) << clock / BIT;
    if (clock < FRAME - BIT / 2) return;
    const uint8_t byte = bits >> 1;
    if (write(1, &byte, 1) != 1) _exit(1);
    clock = -1;
  }
};

static void take(uint8_t* data, size_t size) {
  while (size > 0) {
    const ssize_t got = read(0, data, size);
    if (got <= 0) _exit(0);
    data += got;
    size -= got;
  }
}

int main() {
  Sender sender;
  Receiver receiver;
  dut.rx = 1;
  int quiet = 0;
  for (uint64_t clock = 0;; clock++) {
    dut.reset = clock < 8;
    dut.clk = 0;
    dut.eval();
    dut.clk = 1;
    dut.eval();
    receiver.step();
    sender.step();
    const bool active = !sender.idle() || receiver.clock >= 0 || dut.busy;
    quiet = active ? 0 : quiet + 1;
    if (clock % BIT) continue;
    pollfd input = {0, POLLIN, 0};
    if (poll(&input, 1, quiet > LINGER ? -1 : 0) <= 0) continue;
    uint8_t record[2], data[255];
    take(record, 2);
    take(data, record[1]);
    if (record[0] == 1) sender.add_break();
    for (int k = 0; k < record[1]; k++) sender.add(data[k]);
    quiet = 0;
  }
}
