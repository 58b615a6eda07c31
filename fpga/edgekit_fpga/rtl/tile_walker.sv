// Visits the granules of a tensor in the order in which a layer makes its output, and says where
// each lies: y, x, tile; or, where `blocked`, block of N tiles, y, x, tile of the block.
//
// Handshake: `start` loads the tensor; from the next cycle on `bank` and `granule` are those of the
// current granule until `step` moves on. `last` marks the final granule. Its shape and its steps have to
// be there a cycle before the first `step`.
module tile_walker #(
    parameter int N = 2,
    parameter int B = 4,
    parameter int BANK_BITS = B > 1 ? $clog2(B) : 1
) (
    input  logic                 clk,
    input  logic                 start,
    input  logic                 step,
    input  logic                 blocked,
    input  logic [         23:0] base,
    input  logic [         15:0] row,
    input  logic [         11:0] pixel,
    input  logic [          3:0] rotation,
    input  logic [         15:0] height,
    input  logic [         15:0] width,
    input  logic [         15:0] tiles,
    output logic [BANK_BITS-1:0] bank,
    output logic [         23:0] granule,
    output logic [         15:0] tile,
    output logic                 first_pixel,
    output logic                 last
);
  localparam int NB = N > 1 ? $clog2(N) : 1;
  logic [15:0] x, y, block, x_end, y_end, tiles_end;
  logic [23:0] row_start, column;
  logic [15:0] row_step;
  logic [11:0] pixel_step;
  logic tensor_last, tile_last, x_last, y_last, block_last;
  always_comb begin
    tensor_last = tile == tiles_end;
    tile_last   = tensor_last || (blocked && (N == 1 || &tile[NB-1:0]));
    x_last      = x == x_end;
    y_last      = y == y_end;
    block_last  = !blocked || tensor_last;
    last        = tile_last && x_last && y_last && block_last;
    granule     = row_start + column + {8'b0, tile};
    first_pixel = x == 0 && y == 0;
  end
  always_ff @(posedge clk) begin
    x_end     <= width - 1'b1;
    y_end     <= height - 1'b1;
    tiles_end <= tiles - 1'b1;
    row_step   <= row;
    pixel_step <= pixel;
    if (start) begin
      x         <= '0;
      y         <= '0;
      block     <= '0;
      tile      <= '0;
      column    <= '0;
      row_start <= base;
      bank      <= BANK_BITS'(rotation);
    end else if (step) begin
      tile <= tile_last ? block : tile + 1'b1;
      if (tile_last) begin
        x      <= x_last ? '0 : x + 1'b1;
        column <= x_last ? '0 : column + {12'b0, pixel_step};
      end
      if (tile_last && x_last) begin
        y    <= y_last ? '0 : y + 1'b1;
        bank <= bank == BANK_BITS'(B - 1) ? '0 : bank + 1'b1;
        if (bank == BANK_BITS'(B - 1)) row_start <= row_start + {8'b0, row_step};
      end
      if (tile_last && x_last && y_last) begin
        row_start <= base;
        bank      <= BANK_BITS'(rotation);
        block     <= block + 16'(N);
        tile      <= block + 16'(N);
      end
    end
  end
endmodule
