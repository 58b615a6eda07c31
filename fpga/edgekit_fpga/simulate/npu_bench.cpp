// The host's side of module npu: reads commands from stdin, writes answers to stdout, all of them
// little-endian 32-bit words.
//
//   0 memory address count words...   load words into a memory
//   1 limit count words...            run; the words are the weight stream of LOAD instructions
//                                     -> error, cycles, layers, then (index, cycle) of each layer
//   2 address count                   read granules -> their words
//
// `error` is 0 for a run that ended, 1 for a program that the NPU refused, 2 for one that did not
// end within `limit` cycles.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "Vdut.h"

static Vdut dut;

static void tick() {
  dut.clk = 0;
  dut.eval();
  dut.clk = 1;
  dut.eval();
}

static uint32_t take() {
  uint32_t word;
  if (fread(&word, sizeof word, 1, stdin) != 1) _Exit(3);
  return word;
}

static std::vector<uint32_t> take_words() {
  std::vector<uint32_t> words(take());
  if (!words.empty() && fread(words.data(), 4, words.size(), stdin) != words.size()) _Exit(3);
  return words;
}

static void give(uint32_t word) { fwrite(&word, sizeof word, 1, stdout); }

// One clock with the stream's next word on offer; tells whether it was taken.
static bool offer(const std::vector<uint32_t>& words, size_t next) {
  dut.in_valid = next < words.size();
  dut.in_data = dut.in_valid ? words[next] : 0;
  dut.clk = 0;
  dut.eval();
  const bool taken = dut.in_valid && dut.in_ready;
  dut.clk = 1;
  dut.eval();
  return taken;
}

static void load() {
  dut.target = take();
  dut.target_address = take();
  const std::vector<uint32_t> words = take_words();
  dut.target_set = 1;
  tick();
  dut.target_set = 0;
  for (size_t next = 0; next < words.size();) next += offer(words, next);
  dut.in_valid = 0;
  tick();
}

static void run() {
  const uint32_t limit = take();
  const std::vector<uint32_t> words = take_words();
  std::vector<uint32_t> layers;
  size_t next = 0;
  dut.start = 1;
  tick();
  dut.start = 0;
  uint64_t spent = 0;
  for (; dut.busy && spent < limit; spent++) {
    next += offer(words, next);
    if (dut.layer_start) {
      layers.push_back(dut.layer);
      layers.push_back(dut.cycles);
    }
  }
  dut.in_valid = 0;
  give(dut.busy ? 2 : dut.error);
  give(dut.cycles);
  give(layers.size() / 2);
  fwrite(layers.data(), 4, layers.size(), stdout);
  if (dut.busy) {
    fflush(stdout);
    _Exit(0);
  }
}

static void read() {
  dut.read_address = take();
  dut.read_count = take();
  dut.read = 1;
  tick();
  dut.read = 0;
  dut.out_ready = 1;
  while (dut.reading) {
    if (dut.out_valid) give(dut.out_data);
    tick();
  }
}

int main() {
  dut.reset = 1;
  dut.start = dut.read = dut.target_set = dut.in_valid = dut.out_ready = 0;
  for (int i = 0; i < 4; i++) tick();
  dut.reset = 0;
  tick();
  uint32_t command;
  while (fread(&command, sizeof command, 1, stdin) == 1) {
    if (command == 0) load();
    if (command == 1) run();
    if (command == 2) read();
    fflush(stdout);
  }
  return 0;
}
