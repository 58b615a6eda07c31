// Visits the granules of a tensor in the order in which a layer makes its output, and says where
// each lies: y, x, tile; or, where `blocked`, block of N tiles, y, x, tile of the block.
//
// Handshake: `start` loads the tensor; from the next cycle on `bank` and `granule` are those of the
// current granule until `step` moves on. `last` marks the final granule. The tensor's shape has to be
// there in the cycle after `start`, and the first `step` comes later than that.
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
  // `..._last` and `first_pixel` come from registers that look a step ahead
  logic tensor_last, block_ends, tile_last, x_last, y_last, start_1;
  logic [15:0] next_tile;
  assign tile_last = tensor_last || block_ends;
  assign next_tile = !tile_last ? tile + 1'b1 : x_last && y_last ? block + 16'(N) : block;
  always_comb begin
    last    = tile_last && x_last && y_last && (!blocked || tensor_last);
    granule = row_start + column + {8'b0, tile};
  end
  always_ff @(posedge clk) begin
    x_end     <= width - 1'b1;
    y_end     <= height - 1'b1;
    tiles_end <= tiles - 1'b1;
    row_step   <= row;
    pixel_step <= pixel;
    start_1    <= start;
    if (start_1) begin
      tensor_last <= tiles == 16'd1;
      block_ends  <= blocked && N == 1;
      x_last      <= width == 16'd1;
      y_last      <= height == 16'd1;
    end else if (step) begin
      tensor_last <= next_tile == tiles_end;
      block_ends  <= blocked && (N == 1 || &next_tile[NB-1:0]);
      if (tile_last) x_last <= x_last ? x_end == 0 : x + 1'b1 == x_end;
      if (tile_last && x_last) y_last <= y_last ? y_end == 0 : y + 1'b1 == y_end;
    end
    if (start) begin
      x           <= '0;
      y           <= '0;
      block       <= '0;
      tile        <= '0;
      column      <= '0;
      row_start   <= base;
      bank        <= BANK_BITS'(rotation);
      first_pixel <= 1'b1;
    end else if (step) begin
      tile <= next_tile;
      if (tile_last) begin
        x           <= x_last ? '0 : x + 1'b1;
        column      <= x_last ? '0 : column + {12'b0, pixel_step};
        first_pixel <= x_last && y_last;
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
      end
    end
  end
endmodule
