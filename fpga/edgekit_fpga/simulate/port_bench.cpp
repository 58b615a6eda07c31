// Module npu_axi as a process: register accesses and streams as commands on stdin, answers on
// stdout, all of them little-endian 32-bit words.
//
//   0 address value           write a register         -> response (0 OKAY, 2 SLVERR)
//   1 address                 read a register          -> response, value
//   2 count words...          stream words in          -> words taken
//   3 count                   take words of the stream out -> words, then those words
//
// A stream that does not move for STALL clocks ends its command early.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "Vdut.h"

static const long STALL = 50'000'000;
// The NPU works on between two accesses of its host, as it does behind any real link.
static const int GAP = 64;

static Vdut dut;

static void low() {
  dut.aclk = 0;
  dut.eval();
}

static void high() {
  dut.aclk = 1;
  dut.eval();
}

static void tick() {
  low();
  high();
}

static uint32_t take() {
  uint32_t word;
  if (fread(&word, sizeof word, 1, stdin) != 1) _Exit(3);
  return word;
}

static void give(uint32_t word) { fwrite(&word, sizeof word, 1, stdout); }

static void write_register() {
  dut.s_axil_awaddr = take();
  dut.s_axil_wdata = take();
  dut.s_axil_wstrb = 0xf;
  dut.s_axil_awvalid = dut.s_axil_wvalid = 1;
  while (dut.s_axil_awvalid || dut.s_axil_wvalid) {
    low();
    const bool address = dut.s_axil_awvalid && dut.s_axil_awready;
    const bool data = dut.s_axil_wvalid && dut.s_axil_wready;
    high();
    if (address) dut.s_axil_awvalid = 0;
    if (data) dut.s_axil_wvalid = 0;
  }
  for (low(); !dut.s_axil_bvalid; low()) high();
  give(dut.s_axil_bresp);
  dut.s_axil_bready = 1;
  tick();
  dut.s_axil_bready = 0;
}

static void read_register() {
  dut.s_axil_araddr = take();
  dut.s_axil_arvalid = 1;
  for (low(); !dut.s_axil_arready; low()) high();
  high();
  dut.s_axil_arvalid = 0;
  for (low(); !dut.s_axil_rvalid; low()) high();
  give(dut.s_axil_rresp);
  give(dut.s_axil_rdata);
  dut.s_axil_rready = 1;
  tick();
  dut.s_axil_rready = 0;
  for (int i = 0; i < GAP; i++) tick();
}

static void stream_in() {
  std::vector<uint32_t> words(take());
  if (!words.empty() && fread(words.data(), 4, words.size(), stdin) != words.size()) _Exit(3);
  size_t next = 0;
  for (long waited = 0; next < words.size() && waited < STALL; waited++) {
    dut.s_axis_tvalid = 1;
    dut.s_axis_tdata = words[next];
    dut.s_axis_tlast = next + 1 == words.size();
    low();
    const bool taken = dut.s_axis_tready;
    high();
    if (taken) next++, waited = 0;
  }
  dut.s_axis_tvalid = 0;
  // the last word is on its way into its memory
  for (int i = 0; i < 4; i++) tick();
  give(next);
}

static void stream_out() {
  const uint32_t count = take();
  std::vector<uint32_t> words;
  dut.m_axis_tready = 1;
  for (long waited = 0; words.size() < count && waited < STALL; waited++) {
    low();
    if (dut.m_axis_tvalid) words.push_back(dut.m_axis_tdata), waited = 0;
    high();
  }
  dut.m_axis_tready = 0;
  tick();
  give(words.size());
  fwrite(words.data(), 4, words.size(), stdout);
}

int main() {
  dut.s_axil_awvalid = dut.s_axil_wvalid = dut.s_axil_bready = 0;
  dut.s_axil_arvalid = dut.s_axil_rready = dut.s_axis_tvalid = dut.m_axis_tready = 0;
  dut.aresetn = 0;
  for (int i = 0; i < 5; i++) tick();
  dut.aresetn = 1;
  for (int i = 0; i < 3; i++) tick();
  uint32_t command;
  while (fread(&command, sizeof command, 1, stdin) == 1) {
    if (command == 0) write_register();
    if (command == 1) read_register();
    if (command == 2) stream_in();
    if (command == 3) stream_out();
    fflush(stdout);
  }
  return 0;
}
