// The NPU for small parts: one output lane of four products a cycle, one requantizer that takes its
// time, memories with one port. Ports and instructions are those of module npu; what it leaves out
// is in docs/npu-rtl.md.
//
//   compact_sequencer -> compact_fill -> operand buffer -> compact_beats -> compact_mac
//                        (activations)                      (weights)           |
//                        activations <- compact_walker <- compact_post <-> compact_requantizer
//
// The one port of activation memory serves, in this order: results, the second operand, operands,
// the host.
module npu_compact #(
    parameter int P = 1024,
    parameter int GRANULES = 65536,
    parameter int WEIGHT_WORDS = 16384,
    parameter int REQUANT_TILES = 1024,
    parameter int TABLE_ENTRIES = 256,
    parameter int INSTRUCTIONS = 16
) (
    input  logic        clk,
    input  logic        reset,
    // control
    input  logic        start,
    output logic        busy,
    output logic        error,
    output logic [31:0] cycles,
    output logic [15:0] layer,
    output logic        layer_start,
    // what the stream in is for
    input  logic        target_set,
    input  logic [ 2:0] target,
    input  logic [31:0] target_address,
    input  logic        in_valid,
    output logic        in_ready,
    input  logic [31:0] in_data,
    // reading activations
    input  logic        read,
    input  logic [31:0] read_address,
    input  logic [23:0] read_count,
    output logic        reading,
    output logic        out_valid,
    input  logic        out_ready,
    output logic [31:0] out_data,
    output logic        out_last
);
  localparam int ADDRESS_BITS = $clog2(GRANULES);
  localparam int WEIGHT_BITS = $clog2(WEIGHT_WORDS);
  localparam int ENTRY_BITS = $clog2(REQUANT_TILES);
  localparam int TABLE_BITS = $clog2(TABLE_ENTRIES);
  localparam int INSTRUCTION_BITS = $clog2(INSTRUCTIONS * 32);
  localparam int PLACE_BITS = $clog2(P);

  npu_isa::instruction_t instruction;
  npu_setup::setup_t setup;
  logic launch, layer_done, load, load_ready, loads_done;

  // ---- what comes in
  logic loaded, loaded_half;
  logic [2:0] loaded_target;
  logic [ADDRESS_BITS-1:0] loaded_address;
  compact_loader #(
      .ADDRESS_BITS(ADDRESS_BITS)
  ) loader (
      .clk,
      .reset,
      .running(busy),
      .target_set,
      .target,
      .target_address,
      .load,
      .load_address(instruction.weights),
      .load_count(instruction.count),
      .load_ready,
      .loads_done,
      .in_valid,
      .in_ready,
      .write(loaded),
      .write_target(loaded_target),
      .write_address(loaded_address),
      .write_half(loaded_half)
  );

  // ---- instructions
  logic [INSTRUCTION_BITS-1:0] word_address;
  logic [31:0] word;
  memory #(
      .WIDTH(32),
      .DEPTH(INSTRUCTIONS * 32)
  ) instructions (
      .clk,
      .write(loaded && loaded_target == 3'd0),
      .write_address(INSTRUCTION_BITS'(loaded_address)),
      .write_data(in_data),
      .read_address(word_address),
      .read_data(word)
  );
  compact_sequencer #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .INSTRUCTIONS(INSTRUCTIONS)
  ) sequencer (
      .clk,
      .reset,
      .start,
      .busy,
      .error,
      .cycles,
      .index(layer),
      .word_address,
      .word,
      .launch,
      .instruction,
      .setup,
      .layer_done,
      .load,
      .load_ready,
      .loads_done
  );
  assign layer_start = launch;

  // ---- activations and the one who has their port
  logic result_write, second_request, second_grant, fill_request, fill_grant, host_write, host_read;
  logic [ADDRESS_BITS-1:0] result_address, second_address, fill_address, address;
  logic [7:0] result_data;
  logic [31:0] host_address, activations;
  logic [3:0] write;
  always_comb begin
    host_write   = loaded && loaded_target == 3'd4;
    second_grant = second_request && !result_write;
    fill_grant   = fill_request && !result_write && !second_request;
    write        = result_write || host_write ? 4'd1 << address[1:0] : 4'd0;
    address      = result_write ? result_address
                 : second_request ? second_address
                 : fill_request ? fill_address
                 : host_read ? host_address[ADDRESS_BITS-1:0] : loaded_address;
  end
  compact_memory #(
      .WORDS(GRANULES / 4)
  ) activation_memory (
      .clk,
      .write,
      .address(address[ADDRESS_BITS-1:2]),
      .write_data(result_write ? {4{result_data}} : {4{in_data[7:0]}}),
      .read_data(activations)
  );
  logic [1:0] byte_read;
  always_ff @(posedge clk) byte_read <= address[1:0];

  // ---- operands
  logic [3:0] buffer_write;
  logic write_half, used, used_half;
  logic [PLACE_BITS-3:0] write_word, used_word;
  logic [31:0] buffer_data, operands;
  logic [1:0] full, ends_block;
  compact_fill #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .PLACE_BITS(PLACE_BITS)
  ) fill (
      .clk,
      .reset,
      .start(launch),
      .instruction,
      .setup,
      .request(fill_request),
      .address(fill_address),
      .grant(fill_grant),
      .read_data(activations),
      .write(buffer_write),
      .write_half,
      .write_word,
      .write_data(buffer_data),
      .full,
      .ends_block,
      .used,
      .used_half
  );
  genvar i;
  generate
    for (i = 0; i < 4; i++) begin : g_byte
      memory #(
          .WIDTH(8),
          .DEPTH(2 ** (PLACE_BITS - 1))
      ) operand_bytes (
          .clk,
          .write(buffer_write[i]),
          .write_address({write_half, write_word}),
          .write_data(buffer_data[i*8+:8]),
          .read_address({used_half, used_word}),
          .read_data(operands[i*8+:8])
      );
    end
  endgenerate

  // ---- beats
  logic valid_1, first_1, last_1, loads_weight, second_valid, factor_used, add_used;
  logic [1:0] lane_1, weight_lane_1;
  logic [WEIGHT_BITS-1:0] weight_address;
  logic [ENTRY_BITS-1:0] entry_address;
  logic [7:0] second;
  logic [31:0] weights;
  assign loads_weight = loaded && loaded_target == 3'd1;
  compact_beats #(
      .WEIGHT_BITS(WEIGHT_BITS),
      .ENTRY_BITS(ENTRY_BITS),
      .WORD_BITS(PLACE_BITS - 2)
  ) beats (
      .clk,
      .reset,
      .start(launch),
      .instruction,
      .setup,
      .full,
      .ends_block,
      .used,
      .half(used_half),
      .word(used_word),
      .weight(weight_address),
      .weights_busy(loads_weight),
      .factor_valid(second_valid),
      .factor_used,
      .valid_1,
      .first_1,
      .last_1,
      .lane_1,
      .weight_lane_1,
      .entry(entry_address)
  );
  compact_memory #(
      .WORDS(WEIGHT_WORDS)
  ) weight_memory (
      .clk,
      .write({4{loads_weight}}),
      .address(loads_weight ? WEIGHT_BITS'(loaded_address) : weight_address),
      .write_data(in_data),
      .read_data(weights)
  );

  // ---- sums
  logic first_3, last_4, sum_valid, largest_valid;
  logic [31:0] sum;
  logic [7:0] largest, factor;
  logic [1:0][31:0] entry, entry_read;
  compact_mac mac (
      .clk,
      .reset,
      .instruction,
      .valid_1,
      .first_1,
      .last_1,
      .lane_1,
      .weight_lane_1,
      .data(operands),
      .weights,
      .factor,
      .bias(entry[0]),
      .first_3,
      .last_4,
      .sum_valid,
      .sum,
      .largest_valid,
      .largest
  );
  generate
    for (i = 0; i < 2; i++) begin : g_entry
      memory #(
          .WIDTH(32),
          .DEPTH(REQUANT_TILES)
      ) requant (
          .clk,
          .write(loaded && loaded_target == 3'd2 && loaded_half == i[0]),
          .write_address(ENTRY_BITS'(loaded_address)),
          .write_data(in_data),
          .read_address(entry_address),
          .read_data(entry_read[i])
      );
    end
  endgenerate
  // a memory reads in every cycle; the entry has to last until its output's last beat
  logic entry_new;
  logic [1:0][31:0] entry_held;
  assign entry = entry_new ? entry_read : entry_held;
  always_ff @(posedge clk) begin
    entry_new <= first_3;
    if (entry_new) entry_held <= entry_read;
  end

  // ---- int8 again; sums of adds take the second half of the same way
  logic requantized, of_sum, add_valid, add_ready, added, result_valid, post_valid;
  logic [7:0] requantized_data, post_data;
  logic [54:0] add_sum;
  logic [3:0] add_bytes;
  compact_requantizer requantizer (
      .clk,
      .reset,
      .take(last_4),
      .multiplier(entry[1][23:0]),
      .shift(entry[1][29:24]),
      .accumulator(sum),
      .offset(instruction.zero_point),
      .low(instruction.low),
      .high(instruction.high),
      .sum_valid(add_valid),
      .sum_ready(add_ready),
      .sum(add_sum),
      .sum_bytes(add_bytes),
      .sum_offset(instruction.add_offset),
      .sum_low(instruction.add_low),
      .sum_high(instruction.add_high),
      .of_sum,
      .valid(requantized),
      .result(requantized_data)
  );
  compact_post #(
      .TABLE_ENTRIES(TABLE_ENTRIES)
  ) post (
      .clk,
      .reset,
      .instruction,
      .valid_in((requantized && !of_sum) || largest_valid),
      .data_in(largest_valid ? largest : requantized_data),
      .valid_out(post_valid),
      .data_out(post_data),
      .second_valid,
      .second,
      .second_used(add_used),
      .sum_valid(add_valid),
      .sum_ready(add_ready),
      .sum(add_sum),
      .sum_bytes(add_bytes),
      .table_write(loaded && loaded_target == 3'd3),
      .table_address(TABLE_BITS'(loaded_address)),
      .table_half(loaded_half),
      .table_word(in_data)
  );
  assign added = requantized && of_sum;
  assign result_valid = post_valid || added;

  // ---- where results go
  logic blocked, final_result, final_write;
  logic [ADDRESS_BITS-1:0] out_address;
  always_ff @(posedge clk)
    blocked <= instruction.opcode != npu_isa::CONV && instruction.opcode != npu_isa::PACK;
  compact_walker #(
      .ADDRESS_BITS(ADDRESS_BITS)
  ) walker (
      .clk,
      .start(launch),
      .step(result_valid),
      .instruction,
      .blocked,
      .address(out_address),
      .second_address,
      .last(final_result)
  );
  always_ff @(posedge clk) begin
    result_write   <= result_valid && !reset;
    final_write    <= final_result;
    result_address <= out_address;
    result_data    <= added ? requantized_data : post_data;
  end
  assign layer_done = result_write && final_write;

  // ---- the second operand of MUL and of adds: fetched when the result before is made
  logic takes_second, second_coming;
  always_ff @(posedge clk) begin
    takes_second   <= instruction.add_flag || instruction.opcode == npu_isa::MUL;
    second_request <= !reset && ((launch && takes_second)
                   || (result_valid && takes_second && !final_result)
                   || (second_request && !second_grant));
    second_coming  <= second_grant && !launch && !reset;
    if (second_coming) second <= activations[byte_read*8+:8];
    second_valid   <= !reset && !launch && (second_coming
                   || (second_valid && !factor_used && !add_used));
    factor         <= second;
  end

  // ---- what goes out
  unloader #(
      .O(1)
  ) the_unloader (
      .clk,
      .reset,
      .read(read && !busy),
      .read_address,
      .read_count,
      .reading,
      .host_read,
      .host_address,
      .host_data(activations[byte_read*8+:8]),
      .out_valid,
      .out_ready,
      .out_data,
      .out_last
  );
endmodule
