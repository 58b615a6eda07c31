// Says in what order a layer reads its input, one request a cycle: a row and a column, or B
// consecutive rows at once where `grouped`.
//
//   CONV          y, x, tile, kernel row, kernel column, I channels; one row a request
//   MAP, MUL      y, x, tile
//   PACK          y, x, group of B kernel rows, I bytes
//   DWCONV, MAXPOOL   block of I / O tiles, y, x, new column of the window, group of kernel rows
//
// Columns of a window that the pixel before had read already are not read again if the stride is
// smaller than the kernel and there is no dilation; kernel rows are read in groups of B if there
// is no vertical dilation, else one by one.
//
// Handshake: `start` loads the layer; `valid` and the request stand until `ready`.
module operand_walker #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
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
    output logic [          23:0] row,          // where it begins
    output logic [          23:0] column,       // granules from there
    output logic [          17:0] y,            // the (first) row, signed; padding if outside
    output logic [          23:0] x,            // the column, or the first byte (PACK), signed
    output logic                  first_group,  // first group of kernel rows
    output logic                  first_chunk,  // PACK: first I bytes of the rows
    output logic                  last,         // completes what one output pixel or tile needs
    output logic                  last_of_block // DWCONV, MAXPOOL: the block's last request
);
  localparam int N = I / O;
  localparam int OB = O > 1 ? $clog2(O) : 0;

  logic pack, window, elementwise;
  assign pack        = instruction.opcode == npu_isa::PACK;
  assign window      = instruction.opcode == npu_isa::DWCONV
                    || instruction.opcode == npu_isa::MAXPOOL;
  assign elementwise = instruction.opcode == npu_isa::MAP || instruction.opcode == npu_isa::MUL;
  assign grouped     = pack || (window && instruction.dilation_height == 8'd1);

  // What one step does, and how often: fixed for the layer, registered at its start.
  logic [15:0] kernel_rows, columns_first, columns_next, chunks, tiles;
  logic [7:0] row_step, stride_x, stride_y, kernel_step_x, repeat_x, repeat_y;
  logic [23:0] tile_step, row_step_address, stride_x_bytes;
  logic reuse;
  always_comb begin
    reuse = window && instruction.dilation_width == 8'd1
        && {8'b0, instruction.stride_width} < instruction.kernel_width;
    row_step = grouped ? 8'(B) : instruction.dilation_height;
  end
  always_ff @(posedge clk) begin
    if (start) begin
      stride_x         <= instruction.opcode == npu_isa::MUL ? 8'd1 : instruction.stride_width;
      stride_y         <= instruction.opcode == npu_isa::MUL ? 8'd1 : instruction.stride_height;
      kernel_rows      <= elementwise ? 16'd1 : instruction.kernel_height;
      columns_first    <= elementwise || pack ? 16'd1 : instruction.kernel_width;
      columns_next     <= elementwise || pack ? 16'd1
                        : reuse ? {8'b0, instruction.stride_width} : instruction.kernel_width;
      repeat_x         <= instruction.opcode == npu_isa::MAP ? instruction.repeat_width : 8'd1;
      repeat_y         <= instruction.opcode == npu_isa::MAP ? instruction.repeat_height : 8'd1;
      tiles            <= window || pack ? 16'd1 : instruction.out_granules;
      row_step_address <= grouped ? {8'b0, instruction.in_row} : setup.kernel_row;
      // CONV reads J = ceil(in_granules / N) times I channels, one where the diagonal moves on;
      // PACK as many times I bytes as a segment can touch at its worst alignment.
      if (pack) chunks <= 16'((24'(setup.segment) + 24'(O - 1) + 24'(I - 1)) / 24'(I));
      else if (instruction.opcode == npu_isa::CONV && instruction.advance_or_channels == 0)
        chunks <= 16'((24'(instruction.in_granules) + 24'(N - 1)) / 24'(N));
      else chunks <= 16'd1;
      tile_step <= instruction.opcode == npu_isa::CONV ? {8'b0, instruction.advance_or_channels}
                 : 24'd1;
      kernel_step_x <= instruction.dilation_width;
      stride_x_bytes <= pack ? setup.stride_column
                      : instruction.opcode == npu_isa::MUL ? 24'd1
                      : {16'b0, instruction.stride_width};
    end
  end

  // Rows: bank, address of the row's start, and the row's number.
  typedef struct packed {
    logic [7:0]  bank;
    logic [23:0] address;
    logic [17:0] number;
  } row_t;
  function automatic row_t next_row(row_t now, logic [7:0] step, logic [23:0] whole,
                                    logic [15:0] pitch);
    row_t after;
    logic [7:0] sum;
    sum           = now.bank + (step & 8'(B - 1));
    after.bank    = sum & 8'(B - 1);
    after.address = now.address + whole + (sum >= 8'(B) ? {8'b0, pitch} : 24'd0);
    after.number  = now.number + {10'b0, step};
    next_row = after;
  endfunction
  row_t row_start, row_output, row_kernel, row_next_output;
  logic [7:0] rotated_top;
  always_comb begin
    rotated_top = {4'b0, instruction.in_rotation} - instruction.pad_top[7:0];
    row_start.bank = rotated_top & 8'(B - 1);
    row_start.address = instruction.in_base + setup.start_row;
    row_start.number = 18'(-$signed({{2{instruction.pad_top[15]}}, instruction.pad_top}));
    row_next_output = next_row(row_output, stride_y, setup.stride_row, instruction.in_row);
  end

  // Columns: address and number.
  typedef struct packed {
    logic [23:0] address;
    logic [23:0] number;
  } column_t;
  column_t column_start, column_output, column_kernel, column_next_output;
  always_comb begin
    column_start.address = pack ? 24'd0 : setup.start_column;
    column_start.number = pack ? setup.start_column
        : 24'(-$signed({{8{instruction.pad_left[15]}}, instruction.pad_left}));
    column_next_output.address = column_output.address + (pack ? 24'd0 : setup.stride_column);
    column_next_output.number = column_output.number + stride_x_bytes;
  end

  // Counters.
  logic [15:0] block, out_y, out_x, tile, kernel_y, kernel_x, chunk, columns;
  logic [7:0] repeated_y, repeated_x;
  logic [23:0] tile_offset, chunk_offset;
  logic chunk_last, row_last, column_last, tile_last, x_last, y_last, block_last;
  logic step_column, step_row, repeat_x_last, repeat_y_last;
  always_comb begin
    chunk_last  = chunk + 1'b1 == chunks;
    row_last    = {8'b0, kernel_y} + {8'b0, grouped ? 16'(B) : 16'd1} >= {8'b0, kernel_rows};
    column_last = kernel_x + 1'b1 == columns;
    tile_last   = tile + 1'b1 == tiles;
    x_last      = out_x + 1'b1 == instruction.out_width;
    y_last      = out_y + 1'b1 == instruction.out_height;
    block_last  = !window || block + 16'(N) >= instruction.out_granules;
    repeat_x_last = repeated_x + 1'b1 == repeat_x;
    repeat_y_last = repeated_y + 1'b1 == repeat_y;
    // a window takes whole columns, everything else whole rows
    step_column = window ? row_last : chunk_last;
    step_row    = window || (chunk_last && column_last);

    bank          = BANK_BITS'(row_kernel.bank);
    row           = row_kernel.address;
    y             = row_kernel.number;
    x             = column_kernel.number + (pack ? chunk_offset << OB : 24'd0);
    column        = tile_offset + chunk_offset
                  + (pack ? 24'($signed(column_kernel.number) >>> OB) : column_kernel.address);
    first_group   = kernel_y == 0;
    first_chunk   = chunk == 0;
    last          = chunk_last && row_last && column_last;
    last_of_block = last && x_last && y_last;
  end

  logic move;
  assign move = valid && ready;
  always_ff @(posedge clk) begin
    if (reset) valid <= 1'b0;
    else if (start) valid <= 1'b1;
    else if (move && last_of_block && tile_last && block_last) valid <= 1'b0;

    if (start) begin
      block         <= '0;
      out_y         <= '0;
      out_x         <= '0;
      tile          <= '0;
      kernel_y      <= '0;
      kernel_x      <= '0;
      chunk         <= '0;
      repeated_x    <= '0;
      repeated_y    <= '0;
      tile_offset   <= '0;
      chunk_offset  <= '0;
      columns       <= elementwise || pack ? 16'd1 : instruction.kernel_width;
      row_output    <= row_start;
      row_kernel    <= row_start;
      column_output <= column_start;
      column_kernel <= column_start;
    end else if (move) begin
      chunk        <= chunk_last ? '0 : chunk + 1'b1;
      chunk_offset <= chunk_last ? '0 : chunk_offset + 24'(N);
      if (step_column) begin
        kernel_x              <= column_last ? '0 : kernel_x + 1'b1;
        column_kernel.address <= column_kernel.address + setup.kernel_column;
        column_kernel.number  <= column_kernel.number + {16'b0, kernel_step_x};
        if (column_last && !last) column_kernel <= column_output;
      end
      if (step_row) begin
        kernel_y   <= row_last ? '0 : kernel_y + (grouped ? 16'(B) : 16'd1);
        row_kernel <= row_last ? row_output
                    : next_row(row_kernel, row_step, row_step_address, instruction.in_row);
      end
      if (last) begin
        tile        <= tile_last ? '0 : tile + 1'b1;
        tile_offset <= tile_last ? {8'b0, block} : tile_offset + tile_step;
        if (!tile_last) column_kernel <= column_output;
      end
      if (last && tile_last) begin
        out_x      <= x_last ? '0 : out_x + 1'b1;
        repeated_x <= x_last || repeat_x_last ? '0 : repeated_x + 1'b1;
        columns    <= x_last ? columns_first : columns_next;
        if (x_last) begin
          column_output <= column_start;
          column_kernel <= column_start;
        end else begin
          if (repeat_x_last) column_output <= column_next_output;
          if (!reuse) column_kernel <= repeat_x_last ? column_next_output : column_output;
        end
      end
      if (last && tile_last && x_last) begin
        out_y      <= y_last ? '0 : out_y + 1'b1;
        repeated_y <= y_last || repeat_y_last ? '0 : repeated_y + 1'b1;
        if (y_last) begin
          row_output  <= row_start;
          row_kernel  <= row_start;
          block       <= block + 16'(N);
          tile_offset <= {8'b0, block} + 24'(N);
        end else begin
          if (repeat_y_last) row_output <= row_next_output;
          row_kernel <= repeat_y_last ? row_next_output : row_output;
        end
      end
    end
  end
endmodule
