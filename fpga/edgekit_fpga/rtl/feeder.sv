// Turns operands into beats: which data, which weight word, first and last beat of a tile.
//
// CONV takes an operand a beat, PACK and DWCONV as many beats as a patch or window needs for all
// its tiles; MAXPOOL, MAP and MUL one beat a tile. Everything behind runs without stopping, so
// this is where the layer is paced: beats that end a tile are at least `setup.post` cycles apart,
// and wait until the tile's residual granule has come.
//
// Timing: a beat fires in cycle 0; its weight word is read then and must be at hand in cycle 2,
// when `beat_valid` shows the operands. `map_valid` with MAP's values comes in cycle 2,
// `max_valid` with MAXPOOL's as much later as max_tree takes.
module feeder #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int P = 80,
    parameter int T = 16,
    parameter int OFFSET_BITS = O > 1 ? $clog2(O) : 1
) (
    input  logic                     clk,
    input  logic                     reset,
    input  logic                     start,
    input  npu_isa::instruction_t    instruction,
    input  npu_setup::setup_t        setup,
    // operands
    input  logic                     operand_valid,
    input  logic [B-1:0][I*8-1:0]    operand_rows,
    input  logic [OFFSET_BITS-1:0]   operand_offset,
    input  logic                     operand_first_group,
    input  logic                     operand_first_chunk,
    input  logic                     operand_last,
    input  logic                     operand_last_of_block,
    output logic                     operand_pop,
    input  logic                     residual_valid,
    output logic                     residual_claim,
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

  logic is_pack, is_window, is_max, is_map, is_mul, grouped;
  always_ff @(posedge clk) begin
    is_pack   <= instruction.opcode == npu_isa::PACK;
    is_max    <= instruction.opcode == npu_isa::MAXPOOL;
    is_window <= instruction.opcode == npu_isa::MAXPOOL || instruction.opcode == npu_isa::DWCONV;
    is_map    <= instruction.opcode == npu_isa::MAP;
    is_mul    <= instruction.opcode == npu_isa::MUL;
    grouped   <= instruction.dilation_height == 8'd1;
  end

  // ---- windows and patches
  logic window_ready, window_valid, window_ends_block, patch_ready, patch_valid, pixel_done;
  logic [T-1:0][I*8-1:0] taps;
  logic [P*8-1:0] bytes;
  window #(
      .I(I),
      .B(B),
      .T(T)
  ) the_window (
      .clk,
      .reset(reset || start),
      .instruction,
      .grouped,
      .push(is_window && operand_valid),
      .rows(operand_rows),
      .first_group(operand_first_group),
      .last(operand_last),
      .last_of_block(operand_last_of_block),
      .ready(window_ready),
      .valid(window_valid),
      .taps,
      .ends_block(window_ends_block),
      .done(is_window && pixel_done)
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
      .push(is_pack && operand_valid),
      .rows(operand_rows),
      .offset(operand_offset),
      .first_group(operand_first_group),
      .first_chunk(operand_first_chunk),
      .last(operand_last),
      .ready(patch_ready),
      .valid(patch_valid),
      .bytes,
      .done(is_pack && pixel_done)
  );

  // ---- beats
  // `..._last` come from registers that look one step ahead; `..._end` are fixed for the layer.
  logic [15:0] step, tile, block, pause, steps_end, tiles_end;
  logic [23:0] weight, block_weight;
  logic step_last, tile_last, fire, available, needs_residual, paused, single;
  logic block_single, next_block_single;  // that block has one tile
  always_comb begin
    available = is_window ? window_valid : is_pack ? patch_valid : operand_valid;
    fire      = available
             && (!step_last || (!paused && (!needs_residual || residual_valid)));
    residual_claim = fire && step_last && needs_residual;
    residual_pop   = residual_claim && is_mul;
    pixel_done     = fire && step_last && tile_last;
    operand_pop    = operand_valid
                  && (is_window ? window_ready : is_pack ? patch_ready : fire);
    weight_address = weight;
  end
  logic start_1, start_2;
  always_ff @(posedge clk) begin
    start_1        <= start;
    start_2        <= start_1;
    needs_residual <= is_mul || instruction.add_flag;
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
      paused       <= 1'b0;
      step_last    <= single;
      tile_last    <= tiles_end == 0 || (is_window && N == 1);
      weight       <= instruction.weights;
      block_weight <= instruction.weights;
    end else begin
      if (fire && step_last) begin
        pause  <= setup.post - 1'b1;
        paused <= setup.post > 16'd1;
      end else if (paused) begin
        pause  <= pause - 1'b1;
        paused <= pause != 16'd1;
      end
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
        if (is_window && window_ends_block) begin
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

  // ---- cycle 1: what the beat's lanes may need
  logic [O-1:0][7:0] residual_1;
  logic [I-1:0][7:0] vector_1;
  logic [WORDS*I-1:0][O-1:0][7:0] taps_1;
  logic fire_1, first_1, last_1;
  logic [23:0] entry_1;
  logic [15:0] step_1;
  logic [15:0] tile_of_block;
  assign tile_of_block = (tile - block) & 16'(N - 1);
  always_ff @(posedge clk) begin
    fire_1     <= fire && !reset;
    first_1    <= step == 0;
    last_1     <= step_last;
    entry_1    <= instruction.requant + {8'b0, tile};
    step_1     <= step;
    residual_1 <= residual_data;
    if (is_pack) begin
      for (int w = 0; w < PATCH_WORDS; w++)
        if (step == 16'(w)) vector_1 <= bytes[w*I*8+:I*8];
    end else vector_1 <= operand_rows[0];
    for (int t = 0; t < WORDS * I; t++)
      taps_1[t] <= t < T ? taps[t%T][tile_of_block*O*8+:O*8] : '0;
  end

  // ---- cycle 2: the beat
  always_ff @(posedge clk) begin
    beat_valid <= fire_1 && !is_max && !is_map && !reset;
    beat_first <= first_1;
    beat_last  <= last_1;
    beat_entry <= entry_1;
    map_valid  <= fire_1 && is_map && !reset;
    map_data   <= vector_1[O-1:0];
    for (int o = 0; o < O; o++) begin
      factor_a[o] <= {vector_1[o][7], vector_1[o]}
                   - {instruction.in_zero_point[7], instruction.in_zero_point};
      factor_b[o] <= {residual_1[o][7], residual_1[o]}
                   - {instruction.add_zero_point[7], instruction.add_zero_point};
      for (int i = 0; i < I; i++) begin
        beat_data[o][i] <= vector_1[i];
        if (is_window)
          for (int w = 0; w < WORDS; w++)
            if (step_1 == 16'(w)) beat_data[o][i] <= taps_1[w*I+i][o];
      end
    end
  end

  // ---- MAXPOOL
  localparam int MAX_CYCLES = $clog2(T) + 1;  // from the beat to the largest tap
  logic [MAX_CYCLES-1:0] max_under_way;
  max_tree #(
      .O(O),
      .T(T)
  ) maximum (
      .clk,
      .taps(taps_1[T-1:0]),
      .count(setup.taps),
      .largest(max_data)
  );
  always_ff @(posedge clk)
    max_under_way <= reset ? '0 : MAX_CYCLES'({max_under_way, fire && is_max});
  assign max_valid = max_under_way[MAX_CYCLES-1];
endmodule
