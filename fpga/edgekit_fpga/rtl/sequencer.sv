// Fetches, prepares and starts one instruction after the other.
//
// While a layer runs the next instruction's 32 words are read and the products of its set-up made,
// one a cycle, so that it can start in the cycle after the last write of the layer before. LOADs
// are handed to the loader and run behind the layers that follow.
//
// Handshake: `start` (one cycle) begins at instruction 0; `busy` until the program's END. `launch`
// is high for one cycle when `instruction` and `setup` are those of a new layer, which answers with
// one cycle of `layer_done`.
module sequencer #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int R = 8,
    parameter int L = 1,
    parameter int B = 4,
    parameter int INSTRUCTIONS = 64,
    parameter int WORD_BITS = $clog2(INSTRUCTIONS * 32)
) (
    input  logic                  clk,
    input  logic                  reset,
    input  logic                  start,
    output logic                  busy,
    output logic                  error,
    output logic [31:0]           cycles,
    output logic [15:0]           index,         // of the newest layer
    // instruction memory, data two cycles after the address
    output logic [WORD_BITS-1:0]  word_address,
    input  logic [31:0]           word,
    // layers
    output logic                  launch,
    output npu_isa::instruction_t instruction,
    output npu_setup::setup_t     setup,
    input  logic                  layer_done,
    // the loader
    output logic                  load,
    output logic [23:0]           load_address,
    output logic [23:0]           load_count,
    input  logic                  load_ready,    // it can take a LOAD
    input  logic                  loads_done     // all of them have landed
);
  localparam int LB = $clog2(B);
  localparam int PRODUCTS = 9;

  // ---- the next instruction's words
  npu_isa::instruction_t next;
  npu_setup::setup_t next_setup;
  logic [15:0] program_counter;
  logic [5:0] asked, arrived;       // words, 0 to 32
  logic fetching, asked_1, asked_2, fetch;
  assign word_address = WORD_BITS'({program_counter, asked[4:0]});
  always_ff @(posedge clk) begin
    asked_1 <= fetching && asked < 6'd32 && !fetch && !reset;
    asked_2 <= asked_1 && !fetch && !reset;
    if (reset || fetch) begin
      asked   <= '0;
      arrived <= '0;
    end else begin
      if (fetching && asked < 6'd32) asked <= asked + 1'b1;
      if (asked_2) arrived <= arrived + 1'b1;
    end
    for (int w = 0; w < 32; w++)
      if (asked_2 && arrived[4:0] == 5'(w)) next[w*32+:32] <= word;
  end

  // ---- the products of its set-up, as soon as the words they need are here
  logic [3:0] product, product_1, product_2;
  logic product_valid, product_1_valid, product_2_valid;
  logic signed [17:0] factor_a, factor_b, a_1, b_1;
  logic signed [35:0] result;
  logic [15:0] column_unit;
  logic signed [17:0] top;
  always_comb begin
    column_unit = next.opcode == npu_isa::PACK ? next.advance_or_channels
                                               : {4'b0, next.in_pixel};
    top = $signed({14'b0, next.in_rotation}) - $signed({{2{next.pad_top[15]}}, next.pad_top});
    factor_a = '0;
    factor_b = {2'b0, next.in_row};
    case (product)
      4'd0: factor_a = {10'b0, next.dilation_height >> LB};
      // MUL reads pixel by pixel, whatever its strides say
      4'd1: factor_a = next.opcode == npu_isa::MUL ? 18'(1 >> LB)
                                                   : {10'b0, next.stride_height >> LB};
      4'd2: factor_a = top >>> LB;
      4'd3: begin
        factor_a = {10'b0, next.dilation_width};
        factor_b = {6'b0, next.in_pixel};
      end
      4'd4: begin
        factor_a = next.opcode == npu_isa::MUL ? 18'd1 : {10'b0, next.stride_width};
        factor_b = {2'b0, column_unit};
      end
      4'd5: begin
        factor_a = -$signed({{2{next.pad_left[15]}}, next.pad_left});
        factor_b = {2'b0, column_unit};
      end
      4'd6: begin
        factor_a = {2'b0, next.in_width};
        factor_b = {2'b0, next.advance_or_channels};
      end
      4'd7: begin
        factor_a = {2'b0, next.kernel_width};
        factor_b = {2'b0, next.advance_or_channels};
      end
      default: begin
        factor_a = {2'b0, next.kernel_height};
        factor_b = {2'b0, next.kernel_width};
      end
    endcase
  end
  assign product_valid = arrived > 6'd18 && product < 4'(PRODUCTS);
  always_ff @(posedge clk) begin
    a_1             <= factor_a;
    b_1             <= factor_b;
    product_1       <= product;
    product_1_valid <= product_valid && !fetch;
    result          <= a_1 * b_1;
    product_2       <= product_1;
    product_2_valid <= product_1_valid && !fetch;
    if (reset || fetch) product <= '0;
    else if (product_valid) product <= product + 1'b1;
    if (product_2_valid)
      case (product_2)
        4'd0: next_setup.kernel_row <= result[23:0];
        4'd1: next_setup.stride_row <= result[23:0];
        4'd2: next_setup.start_row <= result[23:0];
        4'd3: next_setup.kernel_column <= result[23:0];
        4'd4: next_setup.stride_column <= result[23:0];
        4'd5: next_setup.start_column <= result[23:0];
        4'd6: next_setup.row_bytes <= result[23:0];
        4'd7: next_setup.segment <= result[15:0];
        default: next_setup.taps <= result[15:0];
      endcase
  end

  // Cycles a tile needs behind the array.
  logic requantized;
  logic [15:0] lookups, turns;
  always_comb begin
    requantized = next.opcode == npu_isa::CONV || next.opcode == npu_isa::PACK
               || next.opcode == npu_isa::DWCONV || next.opcode == npu_isa::MUL;
    lookups = (next.table_flag ? 16'(O / L) : 16'd0)
            + (next.add_flag && next.opcode != npu_isa::MUL ? 16'(O / L) : 16'd0);
    turns = requantized ? 16'(O / R) : 16'd1;
  end
  always_ff @(posedge clk) next_setup.post <= lookups > turns ? lookups : turns;

  // ---- one instruction after the other
  // (what kind it is stands a cycle after it has arrived; without one that has, nothing goes)
  logic ready, settled, layer_busy, go, is_layer, is_load, is_end, known;
  always_ff @(posedge clk) begin
    is_end   <= next.opcode == npu_isa::END;
    is_load  <= next.opcode == npu_isa::LOAD;
    known    <= next.opcode <= npu_isa::MUL;
    is_layer <= next.opcode <= npu_isa::MUL && next.opcode != npu_isa::END
             && next.opcode != npu_isa::LOAD;
  end
  always_comb begin
    ready = fetching && arrived == 6'd32 && product == 4'(PRODUCTS)
            && !product_1_valid && !product_2_valid;
    go       = settled && (!layer_busy || layer_done);
    load         = go && is_load;
    load_address = next.weights;
    load_count   = next.count;
    fetch        = start && !busy || go && (is_layer || is_load);
  end
  always_ff @(posedge clk) begin
    // (what it waits for beside the layer before, once there, stays)
    settled <= ready && !go && !reset
            && (is_layer ? !next.wait_flag || loads_done
              : is_load ? load_ready : !is_end || loads_done);
    launch <= 1'b0;
    if (busy) cycles <= cycles + 1'b1;
    if (layer_done) layer_busy <= 1'b0;
    if (start && !busy) begin
      busy            <= 1'b1;
      error           <= 1'b0;
      fetching        <= 1'b1;
      program_counter <= '0;
      cycles          <= '0;
    end
    if (go) begin
      program_counter <= program_counter + 1'b1;
      if (is_layer) begin
        instruction <= next;
        setup       <= next_setup;
        index       <= program_counter;
        launch      <= 1'b1;
        layer_busy  <= 1'b1;
      end
      if (is_end || !known) begin
        busy     <= 1'b0;
        fetching <= 1'b0;
        error    <= !known;
      end
    end
    if (reset) begin
      busy       <= 1'b0;
      error      <= 1'b0;
      fetching   <= 1'b0;
      layer_busy <= 1'b0;
      launch     <= 1'b0;
      cycles     <= '0;
    end
  end
endmodule
