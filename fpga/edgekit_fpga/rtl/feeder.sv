// Turns operands into beats: which data, which weight word, first and last beat of a tile.
//
// CONV takes an operand a beat, PACK and DWCONV as many beats as a patch or window needs for all
// its tiles; MAXPOOL, MAP and MUL one beat a tile. Everything behind runs without stopping, so
// this is where the layer is paced: beats that end a tile are at least `setup.post` cycles apart,
// and wait until the tile's residual granule has come.
//
// A beat is decided on in cycle 0, by what has come and was not yet used; in cycle 1 operands leave
// their queue, and windows and patches make room for the next ones. So no decision waits for another
// module's in the same cycle.
//
// Timing: the address of a beat's weight word is there in cycle 1, the word must be at hand in
// cycle 4, when `beat_valid` shows the operands. `map_valid` with MAP's values comes in cycle 4,
// `max_valid` with MAXPOOL's as much after cycle 3 as max_tree takes.
module feeder #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int P = 80,
    parameter int T = 16,
    parameter int S = 4,
    parameter int OFFSET_BITS = O > 1 ? $clog2(O) : 1
) (
    input  logic                     clk,
    input  logic                     reset,
    input  logic                     start,
    input  npu_isa::instruction_t    instruction,
    input  npu_setup::setup_t        setup,
    // operands
    input  logic                     operand_grouped,  // a column's rows come together
    input  logic                     operand_arrives,  // the queue will have one more in 2 cycles
    input  logic                     operand_valid,
    input  logic [B-1:0][I*8-1:0]    operand_rows,
    input  logic [OFFSET_BITS-1:0]   operand_offset,
    input  logic                     operand_first_group,
    input  logic                     operand_first_chunk,
    input  logic                     operand_last,
    input  logic                     operand_last_of_block,
    output logic                     operand_pop,
    input  logic                     residual_arrives, // the queue will have one more
    input  logic [O*8-1:0]           residual_data,
    output logic                     residual_pop,     // MUL takes it here
    // beats
    output logic [23:0]              weight_address,
    output logic                     beat_valid,
    output logic                     beat_first,
    output logic                     beat_last,
    output logic [23:0]              beat_entry,       // requantization tile
    output logic [O-1:0][I-1:0][7:0] beat_data,
    output logic [O-1:0][8:0]        factor_a,
    output logic [O-1:0][8:0]        factor_b,
    output logic                     map_valid,
    output logic [O-1:0][7:0]        map_data,
    output logic                     max_valid,
    output logic [O-1:0][7:0]        max_data
);
  localparam int N = I / O;
  localparam int WORDS = (T + I - 1) / I;    // beats of the largest window
  localparam int PATCH_WORDS = P / I;

  logic is_pack, is_window, is_max, is_map, is_mul, shared;
  logic to_window, to_patch, many_beats;
  logic [7:0] zero_a, zero_b;
  logic [23:0] requant;
  always_ff @(posedge clk) begin
    zero_a    <= instruction.in_zero_point;
    zero_b    <= instruction.add_zero_point;
    requant   <= instruction.requant;
    is_pack   <= instruction.opcode == npu_isa::PACK;
    is_max    <= instruction.opcode == npu_isa::MAXPOOL;
    is_window <= instruction.opcode == npu_isa::MAXPOOL || instruction.opcode == npu_isa::DWCONV;
    is_map    <= instruction.opcode == npu_isa::MAP;
    is_mul    <= instruction.opcode == npu_isa::MUL;
    shared    <= instruction.opcode != npu_isa::PACK && instruction.opcode != npu_isa::MUL;
    // a cycle later, for those who would have to share a register with all lanes
    to_window  <= is_window;
    to_patch   <= is_pack;
    many_beats <= is_window || is_pack;  // for an item, not one
  end

  // ---- windows and patches
  logic window_ready, window_complete, window_ends_block, patch_ready, patch_complete;
  logic window_done_1, patch_done_1;
  logic [O-1:0][T-1:0][N-1:0][7:0] taps;
  logic [T-1:0] used;
  logic [P*8-1:0] bytes;
  window #(
      .I(I),
      .O(O),
      .B(B),
      .T(T),
      .S(S)
  ) the_window (
      .clk,
      .reset(reset || start),
      .instruction,
      .setup,
      .grouped(operand_grouped),
      .push(to_window && operand_valid),
      .rows(operand_rows),
      .first_group(operand_first_group),
      .last(operand_last),
      .last_of_block(operand_last_of_block),
      .ready(window_ready),
      .complete(window_complete),
      .ends_block(window_ends_block),
      .taps,
      .used,
      .done(window_done_1)
  );
  patch #(
      .I(I),
      .O(O),
      .B(B),
      .P(P)
  ) the_patch (
      .clk,
      .reset(reset || start),
      .instruction,
      .setup,
      .push(to_patch && operand_valid),
      .rows(operand_rows),
      .offset(operand_offset),
      .first_group(operand_first_group),
      .first_chunk(operand_first_chunk),
      .last(operand_last),
      .ready(patch_ready),
      .complete(patch_complete),
      .bytes,
      .done(patch_done_1)
  );

  // ---- what has come and was not yet used: windows, patches or operands; residual granules
  logic fire, fire_1, pixel_done, available, ends_block, unused_room;
  fifo #(
      .WIDTH(1),
      .DEPTH(16)
  ) items (
      .clk,
      .reset(reset || start),
      .push(to_window ? window_complete : to_patch ? patch_complete : operand_arrives),
      .push_data(to_window && window_ends_block),
      .pop(many_beats ? pixel_done : fire),
      .valid(available),
      .room(unused_room),
      .data(ends_block)
  );
  logic residual_claim;
  logic [4:0] residuals;
  always_ff @(posedge clk)
    if (reset || start) residuals <= '0;
    else residuals <= residuals + 5'(residual_arrives) - 5'(residual_claim);

  // ---- cycle 0: a beat?
  // `..._last` and `clear` come from registers that look one step ahead; `..._end` are fixed for the
  // layer.
  logic [15:0] step, tile, block, pause, post_end, steps_end, tiles_end;
  logic [23:0] weight, block_weight;
  logic step_last, tile_last, needs_residual, single;
  logic clear;  // a tile may end: those behind are done with the one before, the residual is here
  logic residual_next, pause_next;
  logic block_single, next_block_single;  // that block has one tile
  always_comb begin
    fire = available && (!step_last || clear);
    residual_claim = fire && step_last && needs_residual;
    pixel_done     = fire && step_last && tile_last;
    pause_next     = fire && step_last ? post_end != 0 : pause > 16'd1;
    residual_next  = !needs_residual || residual_arrives
                  || (residual_claim ? residuals > 5'd1 : residuals != 0);
  end
  logic start_1, start_2;
  always_ff @(posedge clk) begin
    start_1        <= start;
    start_2        <= start_1;
    needs_residual <= is_mul || instruction.add_flag;
    post_end       <= setup.post - 16'd1;
    single         <= is_max || is_map || is_mul || instruction.steps == 16'd1;
    steps_end      <= instruction.steps - 16'd1;
    tiles_end      <= instruction.out_granules - 16'd1;
    block_single      <= block == tiles_end || (is_window && N == 1);
    next_block_single <= block + 16'(N) == tiles_end || N == 1;
    if (start_2) begin
      step         <= '0;
      tile         <= '0;
      block        <= '0;
      pause        <= '0;
      clear        <= !needs_residual;
      step_last    <= single;
      tile_last    <= tiles_end == 0 || (is_window && N == 1);
      weight       <= instruction.weights;
      block_weight <= instruction.weights;
    end else begin
      if (fire && step_last) pause <= post_end;
      else if (pause != 0) pause <= pause - 1'b1;
      clear <= !pause_next && residual_next;
      if (fire) begin
        step      <= step_last ? '0 : step + 1'b1;
        step_last <= single || (!step_last && step + 2'd1 == steps_end);
        weight    <= weight + 1'b1;
      end
      if (fire && step_last) begin
        tile      <= tile + 1'b1;
        tile_last <= tile + 2'd1 == tiles_end
                  || (is_window && tile + 2'd1 == block + 16'(N - 1));
      end
      if (pixel_done) begin
        // the next pixel begins with the block's first tile again
        tile      <= block;
        tile_last <= block_single;
        weight    <= block_weight;
        if (ends_block) begin
          block        <= block + 16'(N);
          tile         <= block + 16'(N);
          tile_last    <= next_block_single;
          block_single <= next_block_single;
          block_weight <= weight + 1'b1;
          weight       <= weight + 1'b1;
        end
      end
    end
  end

  // ---- cycle 1: what it takes
  localparam int LARGEST = WORDS > PATCH_WORDS ? WORDS : PATCH_WORDS;  // beats of an operand
  logic first_1, last_1;
  logic [LARGEST-1:0] step_is_1;
  localparam int TILE_BITS = N > 1 ? $clog2(N) : 1;
  logic [15:0] tile_1;
  logic [TILE_BITS-1:0] tile_of_block;
  always_ff @(posedge clk) begin
    fire_1         <= fire && !reset;
    first_1        <= step == 0;
    last_1         <= step_last;
    window_done_1  <= is_window && pixel_done && !reset;
    patch_done_1   <= is_pack && pixel_done && !reset;
    for (int w = 0; w < LARGEST; w++) step_is_1[w] <= step == 16'(w);
    tile_1         <= tile;
    tile_of_block  <= TILE_BITS'((tile - block) & 16'(N - 1));
    weight_address <= weight;
  end
  assign operand_pop  = to_window ? operand_valid && window_ready
                      : to_patch ? operand_valid && patch_ready : fire_1;
  assign residual_pop = fire_1 && is_mul;

  // ---- cycle 2: what comes from a queue or a patch
  // (the vector is what all lanes share; MUL's factors go by it, and it is zero then)
  logic fire_2, first_2, last_2;
  logic [15:0] tile_2;
  logic [O-1:0][7:0] factors_2, residual_2;
  logic [I-1:0][7:0] vector_1, vector_2;
  always_comb begin
    vector_1 = operand_rows[0] & {I * 8{shared}};
    for (int w = 0; w < PATCH_WORDS; w++)
      vector_1 = vector_1 | (bytes[w*I*8+:I*8] & {I * 8{is_pack && step_is_1[w]}});
  end
  always_ff @(posedge clk) begin
    fire_2          <= fire_1 && !reset;
    first_2         <= first_1;
    last_2          <= last_1;
    tile_2          <= tile_1;
    factors_2       <= operand_rows[0][O*8-1:0];
    residual_2      <= residual_data;
    vector_2        <= vector_1;
  end

  // ---- cycle 3: what the beat's lanes may need
  logic fire_3, first_3, last_3;
  logic [23:0] entry_3;
  logic [O-1:0][7:0] factors_3, residual_3;
  logic [I-1:0][7:0] vector_3;
  always_ff @(posedge clk) begin
    fire_3     <= fire_2 && !reset;
    first_3    <= first_2;
    last_3     <= last_2;
    entry_3    <= requant + {8'b0, tile_2};
    factors_3  <= factors_2;
    residual_3 <= residual_2;
    vector_3   <= vector_2;
  end

  // ---- cycle 4: the beat
  always_ff @(posedge clk) begin
    beat_valid <= fire_3 && !is_max && !is_map && !reset;
    beat_first <= first_3;
    beat_last  <= last_3;
    beat_entry <= entry_3;
    map_valid  <= fire_3 && is_map && !reset;
    map_data   <= vector_3[O-1:0];
    for (int o = 0; o < O; o++) begin
      factor_a[o] <= {factors_3[o][7], factors_3[o]} - {zero_a[7], zero_a};
      factor_b[o] <= {residual_3[o][7], residual_3[o]} - {zero_b[7], zero_b};
    end
  end
  genvar o;
  generate
    for (o = 0; o < O; o++) begin : g_lane
      beat_lane #(
          .I(I),
          .N(N),
          .T(T)
      ) lane (
          .clk,
          .is_window,
          .step_is_1(step_is_1[WORDS-1:0]),
          .tile_of_block,
          .taps(taps[o]),
          .used,
          .vector_3,
          .data(beat_data[o]),
          .largest(max_data[o])
      );
    end
  endgenerate

  // ---- MAXPOOL
  localparam int MAX_CYCLES = $clog2(T) + 1;  // from cycle 2 to the largest tap
  logic [MAX_CYCLES-1:0] max_under_way;
  always_ff @(posedge clk)
    max_under_way <= reset ? '0 : MAX_CYCLES'({max_under_way, fire_2 && is_max});
  assign max_valid = max_under_way[MAX_CYCLES-1];
endmodule
