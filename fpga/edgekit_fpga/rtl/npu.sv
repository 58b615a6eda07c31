// The NPU: memories, the line from operand to result, and a plain host port.
//
//   sequencer -> operand_reader -> feeder -> mac_array -> requantize_lanes -> postprocessor
//                 (activations)     |                                          |        |
//                                   +---------- MAP, MAXPOOL ------------------+     pooler
//                                                                              |        |
//                                        activations <------- tile_walker <----+--------+
//
// Host: choose a memory with `target_*`, stream 32-bit words in; `start`; wait for `busy` to fall;
// `read` granules of a bank, which stream out as 32-bit words. Memories: 0 instructions,
// 1 weights, 2 requantization, 3 tables, 4 activations (address: bank in bits 24-31, granule below).
module npu #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int R = 8,
    parameter int B = 4,
    parameter int L = 1,
    parameter int P = 80,
    parameter int T = 16,
    parameter int GRANULES = 2048,
    parameter int WEIGHT_WORDS = 2560,
    parameter int REQUANT_TILES = 512,
    parameter int TABLE_ENTRIES = 1024,
    parameter int INSTRUCTIONS = 64
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
  localparam int BANK_BITS = B > 1 ? $clog2(B) : 1;
  localparam int OFFSET_BITS = O > 1 ? $clog2(O) : 1;
  localparam int N = I / O;
  localparam int WORD_BITS = $clog2(INSTRUCTIONS * 32);
  localparam int WEIGHT_BITS = $clog2(WEIGHT_WORDS);
  localparam int TILE_BITS = $clog2(REQUANT_TILES);
  localparam int TABLE_BITS = $clog2(TABLE_ENTRIES);
  localparam int LOADER_WIDTH = I > 8 ? I * O * 8 : O * 64;
  localparam int S = npu_setup::window_side(T);
  localparam int GRANULE_PIECES = O > 4 ? O * 8 : 32;  // bits of the words a granule comes in

  npu_isa::instruction_t instruction;
  npu_setup::setup_t setup;
  logic launch, layer_done, load, load_ready, loads_done;
  logic [23:0] load_address, load_count;

  // ---- what comes in
  logic [4:0] loaded;  // a bit a memory
  logic [31:0] loaded_address;
  logic [LOADER_WIDTH-1:0] loaded_data;
  loader #(
      .I(I),
      .O(O),
      .WIDTH(LOADER_WIDTH)
  ) the_loader (
      .clk,
      .reset,
      .running(busy),
      .target_set,
      .target,
      .target_address,
      .load,
      .load_address,
      .load_count,
      .load_ready,
      .loads_done,
      .in_valid,
      .in_ready,
      .in_data,
      .write(loaded),
      .write_address(loaded_address),
      .write_data(loaded_data)
  );

  // ---- instructions
  logic [WORD_BITS-1:0] word_address;
  logic [31:0] word;
  memory #(
      .WIDTH(32),
      .DEPTH(INSTRUCTIONS * 32),
      .LATENCY(2)
  ) instructions (
      .clk,
      .write(loaded[0]),
      .write_address(WORD_BITS'(loaded_address)),
      .write_data(loaded_data[LOADER_WIDTH-1-:32]),
      .read_address(word_address),
      .read_data(word)
  );
  sequencer #(
      .I(I),
      .O(O),
      .R(R),
      .L(L),
      .B(B),
      .INSTRUCTIONS(INSTRUCTIONS)
  ) the_sequencer (
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
      .load_address,
      .load_count,
      .load_ready,
      .loads_done
  );
  assign layer_start = launch;

  // ---- operands
  logic result_write, write;
  logic [BANK_BITS-1:0] result_bank;
  logic [23:0] result_granule;
  logic [O*8-1:0] result_data;
  logic host_read;
  logic [31:0] host_address;
  logic [O*8-1:0] host_data;
  logic operand_grouped, operand_arrives, operand_valid, operand_first_group, operand_first_chunk;
  logic operand_last, operand_last_of_block, operand_pop;
  logic [B-1:0][I*8-1:0] operand_rows;
  logic [OFFSET_BITS-1:0] operand_offset;
  logic residual_arrives, residual_pop, feeder_pop, post_pop;
  logic [O*8-1:0] residual_data;
  logic [BANK_BITS-1:0] write_bank;
  logic [23:0] write_granule;
  logic [O*8-1:0] write_data;
  always_ff @(posedge clk) begin
    write         <= (result_write || loaded[4]) && !reset;
    write_bank    <= result_write ? result_bank : BANK_BITS'(loaded_address >> 24);
    write_granule <= result_write ? result_granule : loaded_address[23:0];
    write_data    <= result_write ? result_data : loaded_data[LOADER_WIDTH-GRANULE_PIECES+:O*8];
  end
  assign residual_pop = feeder_pop || post_pop;
  operand_reader #(
      .I(I),
      .O(O),
      .B(B),
      .S(S),
      .GRANULES(GRANULES)
  ) reader (
      .clk,
      .reset,
      .start(launch),
      .instruction,
      .setup,
      .write,
      .write_bank,
      .write_granule,
      .write_data,
      .host_read,
      .host_bank(BANK_BITS'(host_address >> 24)),
      .host_granule(host_address[23:0]),
      .host_data,
      .operand_grouped,
      .operand_arrives,
      .operand_valid,
      .operand_rows,
      .operand_offset,
      .operand_first_group,
      .operand_first_chunk,
      .operand_last,
      .operand_last_of_block,
      .operand_pop,
      .residual_arrives,
      .residual_data,
      .residual_pop
  );

  // ---- beats
  logic [23:0] weight_address, beat_entry;
  logic beat_valid, beat_first, beat_last, map_valid, max_valid;
  logic [O-1:0][I-1:0][7:0] beat_data;
  logic [O-1:0][8:0] factor_a, factor_b;
  logic [O-1:0][7:0] map_data, max_data;
  feeder #(
      .I(I),
      .O(O),
      .B(B),
      .P(P),
      .T(T),
      .S(S)
  ) the_feeder (
      .clk,
      .reset,
      .start(launch),
      .instruction,
      .setup,
      .operand_grouped,
      .operand_arrives,
      .operand_valid,
      .operand_rows,
      .operand_offset,
      .operand_first_group,
      .operand_first_chunk,
      .operand_last,
      .operand_last_of_block,
      .operand_pop,
      .residual_arrives,
      .residual_data,
      .residual_pop(feeder_pop),
      .weight_address,
      .beat_valid,
      .beat_first,
      .beat_last,
      .beat_entry,
      .beat_data,
      .factor_a,
      .factor_b,
      .map_valid,
      .map_data,
      .max_valid,
      .max_data
  );
  // A word is in parts that lie near their lanes. Their width is one of which no memory cell is left over:
  // seven of 36 bits or 28 of nine.
  localparam int WORD_WIDTH = O * I * 8;
  localparam int PART = 252;
  localparam int PARTS = (WORD_WIDTH + PART - 1) / PART;
  logic [WORD_WIDTH-1:0] weight_word, loaded_weights;
  assign loaded_weights = loaded_data[LOADER_WIDTH-1-:WORD_WIDTH];
  genvar part;
  generate
    for (part = 0; part < PARTS; part++) begin : g_part
      localparam int LEFT = WORD_WIDTH - part * PART;
      localparam int WIDTH = LEFT < PART ? LEFT : PART;
      remote_memory #(
          .WIDTH(WIDTH),
          .DEPTH(WEIGHT_WORDS)
      ) weights (
          .clk,
          .write(loaded[1]),
          .write_address(WEIGHT_BITS'(loaded_address)),
          .write_data(loaded_weights[part*PART+:WIDTH]),
          .read_address(WEIGHT_BITS'(weight_address)),
          .read_data(weight_word[part*PART+:WIDTH])
      );
    end
  endgenerate

  // ---- sums
  logic sums_valid, multiply;
  always_ff @(posedge clk) multiply <= instruction.opcode == npu_isa::MUL;
  logic [O-1:0][31:0] sums;
  mac_array #(
      .I(I),
      .O(O)
  ) array (
      .clk,
      .reset,
      .valid(beat_valid),
      .first(beat_first),
      .last(beat_last),
      .multiply,
      .data(beat_data),
      .weights(weight_word),
      .factor_a,
      .factor_b,
      .valid_out(sums_valid),
      .sums
  );

  // ---- int8 again; a pool's sums take the same way when all pixels are through
  // an entry is at hand with its sums: as long as module mac_array takes, the memory's 2 cycles less
  localparam int ENTRY_CYCLES = 1 + $clog2(I);
  logic [ENTRY_CYCLES-1:0][TILE_BITS-1:0] entry_under_way;
  logic [O*64-1:0] entries;
  logic pool_valid, pool_phase, requantized, requantized_pool;
  logic [O-1:0][31:0] pool_sums;
  logic [O-1:0][7:0] requantized_data;
  logic [63:0] pool_entry;
  always_ff @(posedge clk)
    entry_under_way <= {entry_under_way[ENTRY_CYCLES-2:0], TILE_BITS'(beat_entry)};
  memory #(
      .WIDTH(O * 64),
      .DEPTH(REQUANT_TILES),
      .LATENCY(2)
  ) requant (
      .clk,
      .write(loaded[2]),
      .write_address(TILE_BITS'(loaded_address)),
      .write_data(loaded_data[LOADER_WIDTH-1-:O*64]),
      .read_address(entry_under_way[ENTRY_CYCLES-1]),
      .read_data(entries)
  );
  always_ff @(posedge clk)
    pool_entry <= {2'b0, instruction.pool_shift, instruction.pool_multiplier, instruction.pool_bias};
  requantize_lanes #(
      .O(O),
      .R(R)
  ) lanes (
      .clk,
      .reset,
      .valid_in(sums_valid || pool_valid),
      .tag_in(pool_valid),
      .sums(pool_phase ? pool_sums : sums),
      .entries(pool_phase ? {O{pool_entry}} : entries),
      .zero_point(pool_phase ? instruction.pool_zero_point : instruction.zero_point),
      .low(pool_phase ? instruction.pool_low : instruction.low),
      .high(pool_phase ? instruction.pool_high : instruction.high),
      .valid_out(requantized),
      .tag_out(requantized_pool),
      .results(requantized_data)
  );

  // ---- tables and residuals
  logic post_leaving;
  logic [O-1:0][7:0] post_data;
  postprocessor #(
      .O(O),
      .L(L),
      .TABLE_ENTRIES(TABLE_ENTRIES)
  ) post (
      .clk,
      .reset,
      .instruction,
      .valid_in(map_valid || max_valid || (requantized && !requantized_pool)),
      .data_in(map_valid ? map_data : max_valid ? max_data : requantized_data),
      .residual(residual_data),
      .residual_pop(post_pop),
      .leaving(post_leaving),
      .data_out(post_data),
      .table_write(loaded[3]),
      .table_address(TABLE_BITS'(loaded_address)),
      .table_entry(loaded_data[LOADER_WIDTH-64+:36])
  );

  // ---- where results go: granules of the layer, or into its pool, or out of that. The walker goes
  // by registers of its own; the pool's means wait a cycle for that.
  logic [BANK_BITS-1:0] out_bank;
  logic [23:0] out_granule;
  logic [15:0] out_tile;
  logic out_start, out_step, out_blocked, out_first, out_final;
  logic pooling, pool_ends, pooled, is_window;
  logic [O-1:0][7:0] pooled_data;
  assign pool_ends = out_step && pooling && out_final;
  always_ff @(posedge clk) begin
    is_window   <= instruction.opcode == npu_isa::DWCONV || instruction.opcode == npu_isa::MAXPOOL;
    pooling     <= instruction.pool_flag && !pool_phase;
    pooled      <= requantized && requantized_pool && !reset;
    pooled_data <= requantized_data;
    out_step    <= (post_leaving || (requantized && requantized_pool)) && !reset;
    out_start   <= launch || pool_ends;
    out_blocked <= is_window && !pool_phase;
  end
  tile_walker #(
      .N(N),
      .B(B)
  ) results (
      .clk,
      .start(out_start),
      .step(out_step),
      .blocked(out_blocked),
      .base(instruction.out_base),
      .row(instruction.out_row),
      .pixel(instruction.out_pixel),
      .rotation(instruction.out_rotation),
      .height(pool_phase ? 16'd1 : instruction.out_height),
      .width(pool_phase ? 16'd1 : instruction.out_width),
      .tiles(instruction.out_granules),
      .bank(out_bank),
      .granule(out_granule),
      .tile(out_tile),
      .first_pixel(out_first),
      .last(out_final)
  );
  pooler #(
      .O(O),
      .TILES(REQUANT_TILES),
      .TURNS(O / R)
  ) the_pooler (
      .clk,
      .reset,
      .tiles(instruction.out_granules),
      .valid_in(out_step && pooling),
      .first(out_first),
      .last(out_final),
      .tile(out_tile),
      .data_in(post_data),
      .valid_out(pool_valid),
      .sums(pool_sums)
  );
  always_ff @(posedge clk) begin
    if (launch || reset) pool_phase <= 1'b0;
    else if (pool_ends) pool_phase <= 1'b1;
    result_write   <= out_step && !pooling && !reset;
    layer_done     <= out_step && !pooling && out_final && !reset;
    result_bank    <= out_bank;
    result_granule <= out_granule;
    result_data    <= pooled ? pooled_data : post_data;
  end

  // ---- what goes out
  unloader #(
      .O(O)
  ) the_unloader (
      .clk,
      .reset,
      .read(read && !busy),
      .read_address,
      .read_count,
      .reading,
      .host_read,
      .host_address,
      .host_data,
      .out_valid,
      .out_ready,
      .out_data,
      .out_last
  );
endmodule
