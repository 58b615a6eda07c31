// Fetches, prepares and runs one instruction after the other, nothing at the same time: 32 words
// are read, the products of the layer's set-up are made by repeated addition, the layer runs. LOADs
// are handed to the loader and run behind the layers that follow.
//
// Only the bits that this core can have are kept of a word: heights, widths and channels count to
// 4095, addresses end at the memories' sizes, kernels and steps at the operand buffer's, and there is
// one bank, so no rotation.
//
// Handshake: as the sequencer of module npu.
module compact_sequencer #(
    parameter int ADDRESS_BITS = 16,
    parameter int INSTRUCTIONS = 16,
    parameter int WORD_BITS = $clog2(INSTRUCTIONS * 32)
) (
    input  logic                  clk,
    input  logic                  reset,
    input  logic                  start,
    output logic                  busy,
    output logic                  error,
    output logic [31:0]           cycles,
    output logic [15:0]           index,         // of the newest layer
    // instruction memory, data one cycle after the address
    output logic [WORD_BITS-1:0]  word_address,
    input  logic [31:0]           word,
    // layers
    output logic                  launch,
    output npu_isa::instruction_t instruction,
    output npu_setup::setup_t     setup,
    input  logic                  layer_done,
    // the loader
    output logic                  load,
    input  logic                  load_ready,
    input  logic                  loads_done
);
  typedef enum logic [2:0] {IDLE, FETCH, PREPARE, DISPATCH, RUN} state_t;
  localparam logic [3:0] PRODUCTS = 4'd9;
  state_t state;
  logic [WORD_BITS-6:0] program_counter;
  logic [5:0] asked;
  logic arriving;
  logic [4:0] arrives;
  assign word_address = {program_counter, asked[4:0]};
  assign busy = state != IDLE;
  assign index = 16'(program_counter);

  // ---- an instruction's words, without the bits this core never has
  function automatic logic [31:0] kept(logic [4:0] number);
    logic [31:0] address;
    address = 32'hffffffff >> (32 - ADDRESS_BITS);
    case (number)
      5'd1, 5'd5, 5'd9, 5'd18, 5'd20, 5'd21, 5'd22: kept = address;
      5'd19: kept = {address[30:0], 1'b1};
      5'd2, 5'd6, 5'd10: kept = 32'h0fffffff;
      5'd3, 5'd7: kept = {{4'd0, 12'hfff}, {4'd0, 12'hfff}};
      5'd4, 5'd8: kept = 32'h00000fff;
      5'd12: kept = 32'h07ff07ff;
      5'd14: kept = 32'h0fff0fff;
      5'd15: kept = 32'h07ff01ff;
      default: kept = 32'hffffffff;
    endcase
  endfunction
  always_ff @(posedge clk)
    for (int n = 0; n < 32; n++)
      if (arriving && arrives == 5'(n)) instruction[n*32+:32] <= word & kept(5'(n));

  // ---- products: `factor` added to itself `count` times
  logic [3:0] product;
  logic begun, negative;
  logic [15:0] factor, unit;
  logic [11:0] first_count, count;
  logic [17:0] sum;
  logic is_mul, is_pack;
  always_comb begin
    is_mul  = instruction.opcode == npu_isa::MUL;
    is_pack = instruction.opcode == npu_isa::PACK;
    unit    = is_pack ? instruction.advance_or_channels : {4'b0, instruction.in_pixel};
    case (product)
      4'd0, 4'd1, 4'd2: factor = instruction.in_row;
      4'd3: factor = {4'b0, instruction.in_pixel};
      4'd4, 4'd5: factor = unit;
      4'd6: factor = instruction.in_width;
      default: factor = instruction.kernel_width;
    endcase
    case (product)
      4'd0: first_count = {4'b0, instruction.dilation_height};
      // MUL reads pixel by pixel, whatever its strides say
      4'd1: first_count = is_mul ? 12'd1 : {4'b0, instruction.stride_height};
      4'd2: first_count = instruction.pad_top[11:0];
      4'd3: first_count = {4'b0, instruction.dilation_width};
      4'd4: first_count = is_mul ? 12'd1 : {4'b0, instruction.stride_width};
      4'd5: first_count = instruction.pad_left[11:0];
      4'd6, 4'd7: first_count = is_pack ? {1'b0, instruction.advance_or_channels[10:0]} : 12'd0;
      default: first_count = {1'b0, instruction.kernel_height[10:0]};
    endcase
    // padding moves back; where it is negative the count runs up to zero
    negative = product == 4'd2 || product == 4'd5;
  end
  always_ff @(posedge clk) begin
    if (!begun) begin
      sum   <= '0;
      count <= first_count;
    end else begin
      sum   <= negative && !count[11] ? sum - {2'b0, factor} : sum + {2'b0, factor};
      count <= negative && count[11] ? count + 1'b1 : count - 1'b1;
    end
    if (state == PREPARE && begun && count == 0)
      case (product)
        4'd0: setup.kernel_row <= {{6{sum[17]}}, sum};
        4'd1: setup.stride_row <= {{6{sum[17]}}, sum};
        4'd2: setup.start_row <= {{6{sum[17]}}, sum} + instruction.in_base;
        4'd3: setup.kernel_column <= {{6{sum[17]}}, sum};
        4'd4: setup.stride_column <= {{6{sum[17]}}, sum};
        4'd5: setup.start_column <= {{6{sum[17]}}, sum};
        4'd6: setup.row_bytes <= {{6{sum[17]}}, sum};
        4'd7: setup.segment <= sum[15:0];
        default: setup.taps <= sum[15:0];
      endcase
  end
  assign setup.post = '0;

  // ---- one instruction after the other
  logic is_end, is_load, known, go;
  always_comb begin
    is_end  = instruction.opcode == npu_isa::END;
    is_load = instruction.opcode == npu_isa::LOAD;
    known   = instruction.opcode <= npu_isa::MUL;
    go      = state == DISPATCH && (is_load ? load_ready
            : is_end || instruction.wait_flag ? loads_done : 1'b1);
    load    = go && is_load;
  end
  always_ff @(posedge clk) begin
    launch   <= go && known && !is_end && !is_load && !reset;
    arriving <= state == FETCH && !asked[5];
    arrives  <= asked[4:0];
    if (busy) cycles <= cycles + 1'b1;
    case (state)
      IDLE:
      if (start) begin
        state           <= FETCH;
        asked           <= '0;
        program_counter <= '0;
        error           <= 1'b0;
        cycles          <= '0;
      end
      FETCH: begin
        product <= '0;
        begun   <= 1'b0;
        if (!asked[5]) asked <= asked + 1'b1;
        else if (!arriving) state <= PREPARE;
      end
      PREPARE: begin
        begun <= !(begun && count == 0);
        if (begun && count == 0) product <= product + 1'b1;
        if (product == PRODUCTS) state <= DISPATCH;
      end
      DISPATCH:
      if (!known || (go && is_end)) begin
        state <= IDLE;
        error <= !known;
      end else if (go) state <= RUN;
      default:
      if (is_load || layer_done) begin
        state           <= FETCH;
        asked           <= '0;
        program_counter <= program_counter + 1'b1;
      end
    endcase
    if (reset) begin
      state  <= IDLE;
      error  <= 1'b0;
      cycles <= '0;
    end
  end
endmodule
