// Says in what order a layer reads its input, one request a cycle: a row and a column, or B
// consecutive rows at once where `grouped`.
//
//   CONV          y, x, tile, kernel row, kernel column, I channels; one row a request
//   MAP, MUL      y, x, tile
//   PACK          y, x, group of B kernel rows, I bytes
//   DWCONV, MAXPOOL   block of I / O tiles, y, x, new column of the window, group of kernel rows
//
// Columns of a window that the pixel before had read already are not read again if the stride is
// smaller than the kernel and there is no dilation; kernel rows are read in groups of B if the window
// is a grid of S x S taps (window.sv), which takes kernels of that size without vertical dilation,
// else one by one.
//
// Handshake: `start` begins the layer; `valid` and the request, which come from registers, stand
// until `ready`. The first one comes 3 cycles after `start`, then one a cycle.
module operand_walker #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int S = 4,
    parameter int BANK_BITS = B > 1 ? $clog2(B) : 1
) (
    input  logic                  clk,
    input  logic                  reset,
    input  logic                  start,
    input  npu_isa::instruction_t instruction,
    input  npu_setup::setup_t     setup,
    input  logic                  ready,
    output logic                  valid,
    output logic                  grouped,
    output logic [ BANK_BITS-1:0] bank,         // of the (first) row
    output logic [          23:0] granule,      // the column's, in the (first) row
    output logic [          17:0] y,            // the (first) row, signed; padding if outside
    output logic [          23:0] x,            // the column, or the first byte (PACK), signed
    output logic                  first_group,  // first group of kernel rows
    output logic                  first_chunk,  // PACK: first I bytes of the rows
    output logic                  last,         // completes what one output pixel or tile needs
    output logic                  last_of_block // DWCONV, MAXPOOL: the block's last request
);
  localparam int N = I / O;
  localparam int OB = O > 1 ? $clog2(O) : 0;
  localparam int NB = N > 1 ? $clog2(N) : 0;
  localparam int LB = B > 1 ? $clog2(B) : 0;

  logic start_1;
  always_ff @(posedge clk) start_1 <= start && !reset;

  // Said by the instruction, for what is registered of it below; and from registers, for the loops.
  logic pack, window, elementwise, mul, packing, windowed;
  assign mul         = instruction.opcode == npu_isa::MUL;
  assign pack        = instruction.opcode == npu_isa::PACK;
  assign window      = instruction.opcode == npu_isa::DWCONV
                    || instruction.opcode == npu_isa::MAXPOOL;
  assign elementwise = instruction.opcode == npu_isa::MAP || mul;
  always_ff @(posedge clk) begin
    packing  <= pack;
    windowed <= window;
  end

  // What one step does, and how often: fixed for the layer, registered at its start. Counters run
  // from 0; `..._end` is their last value.
  logic [15:0] groups_end, columns_first_end, columns_next_end, chunks_end, tiles_end, block_end;
  logic [15:0] x_end, y_end;
  logic [7:0] repeat_x_end, repeat_y_end;
  logic [23:0] tile_step, stride_number;
  logic reuse, groups, reuses;
  assign groups = pack || (window && instruction.dilation_height == 8'd1
                           && instruction.kernel_height <= 16'(S)
                           && instruction.kernel_width <= 16'(S));
  assign reuses = window && instruction.dilation_width == 8'd1
               && {8'b0, instruction.stride_width} < instruction.kernel_width;
  always_ff @(posedge clk) begin
    grouped           <= groups;
    reuse             <= reuses;
    groups_end        <= elementwise ? 16'd0
                       : groups ? (instruction.kernel_height - 16'd1) >> LB
                       : instruction.kernel_height - 16'd1;
    columns_first_end <= elementwise || pack ? 16'd0 : instruction.kernel_width - 16'd1;
    columns_next_end  <= elementwise || pack ? 16'd0
                       : reuses ? {8'b0, instruction.stride_width} - 16'd1
                       : instruction.kernel_width - 16'd1;
    repeat_x_end <= instruction.opcode == npu_isa::MAP ? instruction.repeat_width - 8'd1 : 8'd0;
    repeat_y_end <= instruction.opcode == npu_isa::MAP ? instruction.repeat_height - 8'd1 : 8'd0;
    tiles_end    <= window || pack ? 16'd0 : instruction.out_granules - 16'd1;
    block_end    <= window ? ((instruction.out_granules - 16'd1) >> NB) << NB : 16'd0;
    x_end        <= instruction.out_width - 16'd1;
    y_end        <= instruction.out_height - 16'd1;
    // CONV reads J = ceil(in_granules / N) times I channels, one where the diagonal moves on;
    // PACK as many times I bytes as a segment can touch at its worst alignment.
    if (pack) chunks_end <= 16'((24'(setup.segment) + 24'(O - 1) + 24'(I - 1)) / 24'(I)) - 16'd1;
    else if (instruction.opcode == npu_isa::CONV && instruction.advance_or_channels == 0)
      chunks_end <= 16'((24'(instruction.in_granules) + 24'(N - 1)) / 24'(N)) - 16'd1;
    else chunks_end <= 16'd0;
    tile_step <= instruction.opcode == npu_isa::CONV ? {8'b0, instruction.advance_or_channels}
               : 24'd1;
    stride_number <= pack ? setup.stride_column : mul ? 24'd1 : {16'b0, instruction.stride_width};
  end

  // Rows: bank, address of the row's start, and the row's number. A step adds `plain`, or `wrapped`
  // where it goes past the last bank.
  typedef struct packed {
    logic [BANK_BITS-1:0] bank;
    logic [23:0]          address;
    logic [17:0]          number;
  } row_t;
  typedef struct packed {
    logic [7:0]  rows;
    logic [23:0] plain;
    logic [23:0] wrapped;
  } row_step_t;
  function automatic row_t next_row(row_t now, row_step_t step);
    row_t after;
    logic [BANK_BITS:0] sum;
    sum = {1'b0, now.bank} + {1'b0, BANK_BITS'(step.rows) & BANK_BITS'(B - 1)};
    after.bank    = BANK_BITS'(sum) & BANK_BITS'(B - 1);
    after.address = now.address + (sum >= (BANK_BITS + 1)'(B) ? step.wrapped : step.plain);
    after.number  = now.number + {10'b0, step.rows};
    next_row      = after;
  endfunction
  row_t row_start, row_output, row_next_output, row_kernel;
  row_step_t kernel_step, output_step;
  logic [3:0] top_bank;
  assign top_bank = instruction.in_rotation - instruction.pad_top[3:0];
  always_ff @(posedge clk) begin
    row_start.bank    <= BANK_BITS'(top_bank) & BANK_BITS'(B - 1);
    row_start.address <= instruction.in_base + setup.start_row;
    row_start.number  <= 18'(-$signed({{2{instruction.pad_top[15]}}, instruction.pad_top}));
    kernel_step.rows    <= groups ? 8'(B) : instruction.dilation_height;
    kernel_step.plain   <= groups ? {8'b0, instruction.in_row} : setup.kernel_row;
    kernel_step.wrapped <= setup.kernel_row + {8'b0, instruction.in_row};
    output_step.rows    <= mul ? 8'd1 : instruction.stride_height;
    output_step.plain   <= setup.stride_row;
    output_step.wrapped <= setup.stride_row + {8'b0, instruction.in_row};
  end

  // Columns: address and number.
  typedef struct packed {
    logic [23:0] address;
    logic [23:0] number;
  } column_t;
  column_t column_start, column_output, column_kernel, column_next_output;
  logic [23:0] stride_address, kernel_address, kernel_number;
  always_ff @(posedge clk) begin
    column_start.address <= pack ? 24'd0 : setup.start_column;
    column_start.number  <= pack ? setup.start_column
        : 24'(-$signed({{8{instruction.pad_left[15]}}, instruction.pad_left}));
    stride_address       <= pack ? 24'd0 : setup.stride_column;
    kernel_address       <= setup.kernel_column;
    kernel_number        <= {16'b0, instruction.dilation_width};
  end
  always_comb begin
    column_next_output.address = column_output.address + stride_address;
    column_next_output.number  = column_output.number + stride_number;
  end

  // Counters. `..._last` come from registers that look a step ahead.
  logic running;
  logic [15:0] block, out_y, out_x, tile, group, kernel_x, chunk, columns_end;
  logic [7:0] repeated_y, repeated_x;
  logic [23:0] tile_offset, chunk_offset;
  logic chunk_last, group_last, column_last, tile_last, x_last, y_last, block_last;
  logic [15:0] next_columns_end;  // of the pixel after this one
  assign next_columns_end = x_last ? columns_first_end : columns_next_end;
  logic step_column, step_row, repeat_x_last, repeat_y_last, pixel_last, all_last;
  always_comb begin
    // a window takes whole columns, everything else whole rows
    step_column = windowed ? group_last : chunk_last;
    step_row    = windowed || (chunk_last && column_last);
    pixel_last  = chunk_last && group_last && column_last;
    all_last    = pixel_last && x_last && y_last;
  end

  // The request waits here.
  logic move;
  assign move = running && (!valid || ready);
  always_ff @(posedge clk) begin
    if (move) begin
      bank          <= row_kernel.bank;
      granule       <= row_kernel.address + tile_offset + chunk_offset
                     + (packing ? 24'($signed(column_kernel.number) >>> OB) : column_kernel.address);
      y             <= row_kernel.number;
      x             <= column_kernel.number + (packing ? chunk_offset << OB : 24'd0);
      first_group   <= group == 0;
      first_chunk   <= chunk == 0;
      last          <= pixel_last;
      last_of_block <= all_last;
    end
    if (reset || start) valid <= 1'b0;
    else valid <= move || (valid && !ready);
  end

  always_ff @(posedge clk) begin
    if (reset || start) running <= 1'b0;
    else if (start_1) running <= 1'b1;
    else if (move && all_last && tile_last && block_last) running <= 1'b0;

    if (start_1) begin
      block           <= '0;
      out_y           <= '0;
      out_x           <= '0;
      tile            <= '0;
      group           <= '0;
      kernel_x        <= '0;
      chunk           <= '0;
      repeated_x      <= '0;
      repeated_y      <= '0;
      tile_offset     <= '0;
      chunk_offset    <= '0;
      columns_end     <= columns_first_end;
      chunk_last      <= chunks_end == 0;
      group_last      <= groups_end == 0;
      column_last     <= columns_first_end == 0;
      tile_last       <= tiles_end == 0;
      x_last          <= x_end == 0;
      y_last          <= y_end == 0;
      block_last      <= block_end == 0;
      repeat_x_last   <= repeat_x_end == 0;
      repeat_y_last   <= repeat_y_end == 0;
      row_output      <= row_start;
      row_next_output <= next_row(row_start, output_step);
      row_kernel      <= row_start;
      column_output   <= column_start;
      column_kernel   <= column_start;
    end else if (move) begin
      chunk        <= chunk_last ? '0 : chunk + 1'b1;
      chunk_last   <= chunk_last ? chunks_end == 0 : chunk + 1'b1 == chunks_end;
      chunk_offset <= chunk_last ? '0 : chunk_offset + 24'(N);
      if (step_column) begin
        kernel_x              <= column_last ? '0 : kernel_x + 1'b1;
        column_last           <= column_last ? columns_end == 0 : kernel_x + 1'b1 == columns_end;
        column_kernel.address <= column_kernel.address + kernel_address;
        column_kernel.number  <= column_kernel.number + kernel_number;
        if (column_last && !pixel_last) column_kernel <= column_output;
      end
      if (step_row) begin
        group      <= group_last ? '0 : group + 1'b1;
        group_last <= group_last ? groups_end == 0 : group + 1'b1 == groups_end;
        row_kernel <= group_last ? row_output : next_row(row_kernel, kernel_step);
      end
      if (pixel_last) begin
        tile        <= tile_last ? '0 : tile + 1'b1;
        tile_last   <= tile_last ? tiles_end == 0 : tile + 1'b1 == tiles_end;
        tile_offset <= tile_last ? {8'b0, block} : tile_offset + tile_step;
        if (!tile_last) column_kernel <= column_output;
      end
      if (pixel_last && tile_last) begin
        out_x         <= x_last ? '0 : out_x + 1'b1;
        x_last        <= x_last ? x_end == 0 : out_x + 1'b1 == x_end;
        repeated_x    <= x_last || repeat_x_last ? '0 : repeated_x + 1'b1;
        repeat_x_last <= x_last || repeat_x_last ? repeat_x_end == 0
                       : repeated_x + 1'b1 == repeat_x_end;
        columns_end   <= next_columns_end;
        column_last   <= next_columns_end == 0;
        if (x_last) begin
          column_output <= column_start;
          column_kernel <= column_start;
        end else begin
          if (repeat_x_last) column_output <= column_next_output;
          if (!reuse) column_kernel <= repeat_x_last ? column_next_output : column_output;
        end
      end
      if (pixel_last && tile_last && x_last) begin
        out_y         <= y_last ? '0 : out_y + 1'b1;
        y_last        <= y_last ? y_end == 0 : out_y + 1'b1 == y_end;
        repeated_y    <= y_last || repeat_y_last ? '0 : repeated_y + 1'b1;
        repeat_y_last <= y_last || repeat_y_last ? repeat_y_end == 0
                       : repeated_y + 1'b1 == repeat_y_end;
        if (y_last) begin
          row_output      <= row_start;
          row_next_output <= next_row(row_start, output_step);
          row_kernel      <= row_start;
          block           <= block + 16'(N);
          block_last      <= block + 16'(N) == block_end;
          tile_offset     <= {8'b0, block} + 24'(N);
        end else begin
          if (repeat_y_last) begin
            row_output      <= row_next_output;
            row_next_output <= next_row(row_next_output, output_step);
          end
          row_kernel <= repeat_y_last ? row_next_output : row_output;
        end
      end
    end
  end
endmodule
