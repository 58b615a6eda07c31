// The host's end of a serial line: sends stdin's bytes as fast as rts_n lets it, a byte of -1 being
// none but a break, and writes what comes back to stdout until that many bytes (argument 1) came.
// stdin holds int16 values, little-endian.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "Vdut.h"

constexpr int CLOCKS_PER_BIT = 8;
constexpr long MOST_CLOCKS = 20'000'000;

int main(int, char** arguments) {
  Vdut dut;
  std::vector<int16_t> bytes;
  int16_t one;
  while (fread(&one, sizeof one, 1, stdin) == 1) bytes.push_back(one);
  const size_t wanted = strtoul(arguments[1], nullptr, 10);
  size_t next = 0, came = 0;
  int sending = 0, send_clock = 0, hearing = -1, hear_clock = 0;
  uint32_t out = 0, in = 0;
  dut.rx = 1;
  dut.reset = 1;
  for (long clock = 0; came < wanted && clock < MOST_CLOCKS; clock++) {
    if (clock == 8) dut.reset = 0;
    if (sending == 0 && clock > 16 && next < bytes.size() && (!dut.rts_n || bytes[next] < 0)) {
      const int16_t byte = bytes[next++];
      // a break is a line held low for 20 bits, then high for 2
      out = byte < 0 ? 3u << 20 : 0x200u | uint32_t(byte & 0xff) << 1;
      sending = byte < 0 ? 22 : 10;
      send_clock = CLOCKS_PER_BIT;
    }
    dut.rx = sending == 0 || (out & 1);
    if (sending > 0 && --send_clock == 0) {
      out >>= 1;
      sending--;
      send_clock = CLOCKS_PER_BIT;
    }
    dut.clk = 0;
    dut.eval();
    dut.clk = 1;
    dut.eval();
    if (hearing < 0) {
      if (!dut.tx && clock > 16) {
        hearing = 0;
        hear_clock = CLOCKS_PER_BIT + CLOCKS_PER_BIT / 2;
      }
    } else if (--hear_clock == 0) {
      hear_clock = CLOCKS_PER_BIT;
      if (hearing < 8) in = in >> 1 | uint32_t(dut.tx) << 7;
      if (hearing++ == 8) {
        if (!dut.tx) return 4;  // no stop bit
        putchar(int(in & 0xff));
        came++;
        hearing = -1;
      }
    }
  }
  return came < wanted ? 5 : 0;
}
