// Turns pixels in the operand buffer into beats: which word of the buffer, which weight word, which
// byte of each, first and last beat of an output.
//
//   CONV, PACK       for each output channel: a word of operands and a word of weights a beat
//   DWCONV           for each of the block's channels: one tap a beat, four to a weight word
//   MAXPOOL          the same without weights
//   MAP, MUL         a beat for each of the block's channels
//
// What comes behind takes a result every PAUSE cycles, ADD_PAUSE with an add, so beats that end an
// output are at least so far apart; with MUL they wait for the other factor too.
//
// Timing: a beat fires in cycle 0, when the addresses of its operands and weights stand; flags whose
// names end in _1 are those of cycle 1, when the words are there. The requantization entry of a
// beat that is an output's first is asked for in cycle 3.
module compact_beats #(
    parameter int WEIGHT_BITS = 14,
    parameter int ENTRY_BITS  = 10,
    parameter int WORD_BITS   = 8,   // of half the operand buffer
    parameter int PAUSE       = 9,
    parameter int ADD_PAUSE   = 60
) (
    input  logic                   clk,
    input  logic                   reset,
    input  logic                   start,
    input  npu_isa::instruction_t  instruction,
    input  npu_setup::setup_t      setup,
    // operand buffer
    input  logic [            1:0] full,
    input  logic [            1:0] ends_block,
    output logic                   used,
    output logic                   half,
    output logic [  WORD_BITS-1:0] word,
    // weights, whose memory is busy with a word of the loader in some cycles
    output logic [WEIGHT_BITS-1:0] weight,
    input  logic                   weights_busy,
    // the other factor of MUL
    input  logic                   factor_valid,
    output logic                   factor_used,
    // beats
    output logic                   valid_1,
    output logic                   first_1,
    output logic                   last_1,
    output logic [            1:0] lane_1,        // byte of the operand word
    output logic [            1:0] weight_lane_1, // byte of the weight word
    output logic [ ENTRY_BITS-1:0] entry
);
  // (an instruction stands long before its layer starts, so what it says is taken from registers)
  logic is_mul, elementwise, blocked, depthwise, adds;
  always_ff @(posedge clk) begin
    is_mul      <= instruction.opcode == npu_isa::MUL;
    elementwise <= instruction.opcode == npu_isa::MUL || instruction.opcode == npu_isa::MAP;
    depthwise   <= instruction.opcode == npu_isa::DWCONV;
    blocked     <= instruction.opcode != npu_isa::CONV && instruction.opcode != npu_isa::PACK;
    adds        <= instruction.add_flag && instruction.opcode != npu_isa::MUL;
  end

  logic [8:0] step, steps;
  logic [11:0] tile, next_tile, block;
  logic [5:0] pause;
  logic [WEIGHT_BITS-1:0] block_weight, next_weight;
  logic step_last, tile_last, fire;
  always_comb begin
    steps     = elementwise ? 9'd1 : blocked ? setup.taps[8:0] : instruction.steps[8:0];
    step_last = step + 1'b1 == steps;
    next_tile = tile + 1'b1;
    tile_last = next_tile == instruction.out_granules[11:0] || (blocked && next_tile[1:0] == 2'd0);
    fire      = full[half] && !weights_busy
             && (!step_last || (pause == 0 && (!is_mul || factor_valid)));
    used      = fire && step_last && tile_last;
    factor_used = fire && is_mul;
    word      = WORD_BITS'(step);
    // four taps of a depthwise window share a weight word
    next_weight = !depthwise || step[1:0] == 2'd3 || step_last ? weight + 1'b1 : weight;
  end
  always_ff @(posedge clk) begin
    if (fire && step_last) pause <= adds ? 6'(ADD_PAUSE - 1) : 6'(PAUSE - 1);
    else if (pause != 0) pause <= pause - 1'b1;
    if (fire) begin
      step   <= step_last ? '0 : step + 1'b1;
      weight <= next_weight;
      if (step_last) tile <= next_tile;
      if (used) begin
        half   <= !half;
        // the next pixel begins with the block's first output again
        tile   <= block;
        weight <= block_weight;
        if (blocked && ends_block[half]) begin
          block        <= next_tile;
          tile         <= next_tile;
          block_weight <= next_weight;
          weight       <= next_weight;
        end
      end
    end
    if (start) begin
      half         <= 1'b0;
      step         <= '0;
      tile         <= '0;
      block        <= '0;
      pause        <= '0;
      weight       <= WEIGHT_BITS'(instruction.weights);
      block_weight <= WEIGHT_BITS'(instruction.weights);
    end
  end

  logic [ENTRY_BITS-1:0] entry_1, entry_2;
  always_ff @(posedge clk) begin
    valid_1       <= fire && !reset && !start;
    first_1       <= step == 0;
    last_1        <= step_last;
    lane_1        <= tile[1:0];
    weight_lane_1 <= step[1:0];
    entry_1       <= ENTRY_BITS'(instruction.requant) + ENTRY_BITS'(tile);
    entry_2       <= entry_1;
    entry         <= entry_2;
  end
endmodule
