// Reads a layer's input into the operand buffer, one output pixel after the other, while the pixel
// before is being computed: a word a cycle where all of the tensor's addresses are whole words, else
// a byte.
//
//   CONV             y, x, kernel row, kernel column, channels rounded up to whole words
//   PACK             y, x, kernel row, bytes of the patch's row
//   DWCONV, MAXPOOL  block of 4 channels, y, x, kernel row, kernel column, the 4 channels
//   MAP, MUL         block of 4 channels, y, x, the 4 channels
//
// Padding is filled in here. Two pixels lie in the buffer at most, each in a half of its own.
//
// Handshake: `request` and its address stand until `grant`; the word read is at hand in the cycle
// after. `full` marks the halves that are complete, `used` gives one back. Two cycles between pixels.
module compact_fill #(
    parameter int ADDRESS_BITS = 16,
    parameter int PLACE_BITS   = 10   // bytes of half the buffer
) (
    input  logic                    clk,
    input  logic                    reset,
    input  logic                    start,
    input  npu_isa::instruction_t   instruction,
    input  npu_setup::setup_t       setup,
    // activation memory
    output logic                    request,
    output logic [ADDRESS_BITS-1:0] address,
    input  logic                    grant,
    input  logic [            31:0] read_data,
    // operand buffer
    output logic [             3:0] write,       // one bit a byte
    output logic                    write_half,
    output logic [  PLACE_BITS-3:0] write_word,
    output logic [            31:0] write_data,
    output logic [             1:0] full,
    output logic [             1:0] ends_block,  // it is the last pixel of a block of channels
    input  logic                    used,
    input  logic                    used_half
);
  typedef enum logic [1:0] {IDLE, WALK, ADVANCE, RETURN} state_t;
  state_t state;
  // (an instruction stands long before its layer starts, so what it says is taken from registers)
  logic pack, elementwise, blocked, wide;
  logic [11:0] channels;
  always_ff @(posedge clk) begin
    pack        <= instruction.opcode == npu_isa::PACK;
    elementwise <= instruction.opcode == npu_isa::MAP || instruction.opcode == npu_isa::MUL;
    blocked     <= instruction.opcode == npu_isa::MAP || instruction.opcode == npu_isa::MUL
                || instruction.opcode == npu_isa::DWCONV || instruction.opcode == npu_isa::MAXPOOL;
    wide        <= instruction.opcode != npu_isa::PACK && instruction.in_base[1:0] == 0
                && instruction.in_row[1:0] == 0 && instruction.in_pixel[1:0] == 0;
    channels    <= (instruction.in_granules[11:0] + 12'd3) & ~12'd3;
  end

  // ---- where the walk is: kernel row and column, their tops for the pixel, bytes of the run
  logic [ADDRESS_BITS-1:0] row, row_top, column, column_left;
  logic [13:0] y, y_top, x, x_left, run_number;
  logic [11:0] run, next_run, run_end, out_x, out_y, block;
  logic [10:0] kernel_x, kernel_y;
  logic [7:0] repeated_x, repeated_y;
  logic run_last, kernel_x_last, kernel_y_last, out_x_last, out_y_last, block_last;
  logic repeat_x_last, repeat_y_last, padding, half, take, walking;
  logic [PLACE_BITS-1:0] place;
  always_comb begin
    next_run      = run + (wide ? 12'd4 : 12'd1);
    run_end       = pack ? setup.segment[11:0] : blocked ? block + 12'd4
                  : channels;
    run_last      = next_run == run_end;
    kernel_x_last = pack || elementwise || kernel_x + 1'b1 == instruction.kernel_width[10:0];
    kernel_y_last = elementwise || kernel_y + 1'b1 == instruction.kernel_height[10:0];
    out_x_last    = out_x + 1'b1 == instruction.out_width[11:0];
    out_y_last    = out_y + 1'b1 == instruction.out_height[11:0];
    block_last    = !blocked || block + 12'd4 >= instruction.out_granules[11:0];
    repeat_x_last = instruction.opcode != npu_isa::MAP
                 || repeated_x + 1'b1 == instruction.repeat_width;
    repeat_y_last = instruction.opcode != npu_isa::MAP
                 || repeated_y + 1'b1 == instruction.repeat_height;
    // (a number below zero is a large one without its sign)
    run_number    = pack ? x + {2'b0, run} : x;
    padding       = y >= {2'b0, instruction.in_height[11:0]}
                 || run_number >= (pack ? setup.row_bytes[13:0] : {2'b0, instruction.in_width[11:0]});
    walking       = state == WALK && !full[half];
    take          = walking && (!request || grant);
  end
  always_ff @(posedge clk) begin
    case (state)
      WALK:
      if (take) begin
        run   <= run_last ? (blocked ? block : '0) : next_run;
        place <= place + (wide ? PLACE_BITS'(4) : PLACE_BITS'(1));
        if (run_last) begin
          kernel_x <= kernel_x_last ? '0 : kernel_x + 1'b1;
          column   <= kernel_x_last ? column_left
                    : column + setup.kernel_column[ADDRESS_BITS-1:0];
          x        <= kernel_x_last ? x_left : x + {6'b0, instruction.dilation_width};
        end
        if (run_last && kernel_x_last) begin
          kernel_y <= kernel_y + 1'b1;
          row      <= row + setup.kernel_row[ADDRESS_BITS-1:0];
          y        <= y + {6'b0, instruction.dilation_height};
        end
        if (run_last && kernel_x_last && kernel_y_last) state <= ADVANCE;
      end
      ADVANCE: begin
        state      <= RETURN;
        half       <= !half;
        out_x      <= out_x_last ? '0 : out_x + 1'b1;
        repeated_x <= out_x_last || repeat_x_last ? '0 : repeated_x + 1'b1;
        if (out_x_last) begin
          column_left <= setup.start_column[ADDRESS_BITS-1:0];
          x_left      <= pack ? setup.start_column[13:0]
                       : 14'(-$signed({{2{instruction.pad_left[11]}}, instruction.pad_left[11:0]}));
        end else if (repeat_x_last) begin
          column_left <= column_left + setup.stride_column[ADDRESS_BITS-1:0];
          x_left      <= x_left + (pack ? setup.stride_column[13:0]
                       : instruction.opcode == npu_isa::MUL ? 14'd1
                       : {6'b0, instruction.stride_width});
        end
        if (out_x_last) begin
          out_y      <= out_y_last ? '0 : out_y + 1'b1;
          repeated_y <= out_y_last || repeat_y_last ? '0 : repeated_y + 1'b1;
          if (out_y_last) begin
            row_top <= setup.start_row[ADDRESS_BITS-1:0];
            y_top   <= 14'(-$signed({{2{instruction.pad_top[11]}}, instruction.pad_top[11:0]}));
            block   <= block + 12'd4;
            if (block_last) state <= IDLE;
          end else if (repeat_y_last) begin
            row_top <= row_top + setup.stride_row[ADDRESS_BITS-1:0];
            y_top   <= y_top + (instruction.opcode == npu_isa::MUL ? 14'd1
                              : {6'b0, instruction.stride_height});
          end
        end
      end
      RETURN: begin
        state    <= WALK;
        row      <= row_top;
        y        <= y_top;
        column   <= column_left;
        x        <= x_left;
        run      <= blocked ? block : '0;
        kernel_x <= '0;
        kernel_y <= '0;
        place    <= '0;
      end
      default: ;
    endcase
    if (start) begin
      state       <= RETURN;
      half        <= 1'b0;
      block       <= '0;
      out_x       <= '0;
      out_y       <= '0;
      repeated_x  <= '0;
      repeated_y  <= '0;
      column_left <= setup.start_column[ADDRESS_BITS-1:0];
      row_top     <= setup.start_row[ADDRESS_BITS-1:0];
      x_left      <= pack ? setup.start_column[13:0]
                   : 14'(-$signed({{2{instruction.pad_left[11]}}, instruction.pad_left[11:0]}));
      y_top       <= 14'(-$signed({{2{instruction.pad_top[11]}}, instruction.pad_top[11:0]}));
    end
    if (reset) state <= IDLE;
  end

  // ---- the request, and what is to be done with its word
  logic [PLACE_BITS-1:0] place_1, place_2;
  logic padding_1, padding_2, half_1, half_2, last_1, last_2, block_1, block_2, valid_2;
  logic [1:0] byte_2;
  always_ff @(posedge clk) begin
    if (take) begin
      address   <= row + column + ADDRESS_BITS'(run);
      place_1   <= place;
      padding_1 <= padding;
      half_1    <= half;
      last_1    <= run_last && kernel_x_last && kernel_y_last;
      block_1   <= out_x_last && out_y_last;
    end
    request   <= !reset && !start && (take || (request && !grant));
    valid_2   <= !reset && !start && request && grant;
    place_2   <= place_1;
    padding_2 <= padding_1;
    half_2    <= half_1;
    last_2    <= last_1;
    block_2   <= block_1;
    byte_2    <= address[1:0];
  end

  // ---- into the buffer
  logic [7:0] chosen;
  always_comb begin
    chosen     = padding_2 ? instruction.pad_value : read_data[byte_2*8+:8];
    write      = !valid_2 ? 4'd0 : wide ? 4'd15 : 4'd1 << place_2[1:0];
    write_half = half_2;
    write_word = place_2[PLACE_BITS-1:2];
    write_data = wide && !padding_2 ? read_data : {4{chosen}};
  end
  always_ff @(posedge clk) begin
    for (int h = 0; h < 2; h++) begin
      if (used && used_half == h[0]) full[h] <= 1'b0;
      if (valid_2 && last_2 && half_2 == h[0]) begin
        full[h]       <= 1'b1;
        ends_block[h] <= block_2;
      end
    end
    if (reset || start) full <= '0;
  end
endmodule
