// Reads cases of eight int32 from stdin (accumulator, bias, multiplier, shift, zero point, low,
// high, unused) and writes one int8 a case, a case a cycle, pipeline latency taken off.
#include <cstdint>
#include <cstdio>
#include <vector>
#include "Vdut.h"

constexpr int LATENCY = 11;

int main() {
  Vdut dut;
  std::vector<int32_t> cases;
  int32_t one[8];
  while (fread(one, sizeof one, 1, stdin) == 1) cases.insert(cases.end(), one, one + 8);
  const size_t count = cases.size() / 8;
  std::vector<int8_t> results;
  for (size_t cycle = 0; cycle < count + LATENCY; cycle++) {
    const int32_t* now = &cases[8 * (cycle < count ? cycle : count - 1)];
    dut.accumulator = now[0];
    dut.bias = now[1];
    dut.multiplier = now[2];
    dut.shift = now[3];
    // the instruction's constants: the same for all cases of a run
    dut.zero_point = now[4];
    dut.low = now[5];
    dut.high = now[6];
    dut.clk = 0;
    dut.eval();
    dut.clk = 1;
    dut.eval();
    if (cycle + 1 >= LATENCY && results.size() < count) results.push_back(int8_t(dut.result));
  }
  fwrite(results.data(), 1, results.size(), stdout);
  return 0;
}
