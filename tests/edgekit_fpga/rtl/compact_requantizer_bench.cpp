// Reads cases of eight int32 from stdin (accumulator, bias, multiplier, shift, zero point, low,
// high, unused) and writes one int8 a case, a case every 9 cycles, the most the module takes.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "Vdut.h"

constexpr size_t CYCLES = 9, LATENCY = 24;

int main() {
  Vdut dut;
  std::vector<int32_t> cases;
  int32_t one[8];
  while (fread(one, sizeof one, 1, stdin) == 1) cases.insert(cases.end(), one, one + 8);
  const size_t count = cases.size() / 8;
  std::vector<int8_t> results;
  dut.reset = 1;
  for (int clock = 0; clock < 4; clock++) {
    dut.clk = clock & 1;
    dut.eval();
  }
  dut.reset = 0;
  for (size_t cycle = 0; cycle < count * CYCLES + LATENCY; cycle++) {
    const size_t number = cycle / CYCLES < count ? cycle / CYCLES : count - 1;
    const int32_t* now = &cases[8 * number];
    dut.take = cycle % CYCLES == 0 && cycle / CYCLES < count;
    dut.multiplier = now[2];
    dut.shift = now[3];
    // the sum stands for the one cycle after; it holds the bias
    dut.accumulator = cycle % CYCLES == 1 ? uint32_t(now[0]) + uint32_t(now[1]) : 0;
    dut.offset = now[4];
    dut.low = now[5];
    dut.high = now[6];
    dut.clk = 0;
    dut.eval();
    dut.clk = 1;
    dut.eval();
    if (dut.valid) results.push_back(int8_t(dut.result));
  }
  fwrite(results.data(), 1, results.size(), stdout);
  return results.size() == count ? 0 : 1;
}
