// Sums each channel over all pixels, and hands the sums on when the last pixel is done.
//
// Granules come in with their tile's number, `first` with those of the first pixel, `last` with
// the very last one. Then `sums` shows tile after tile, one every `turns` cycles, 24 bits sign
// extended. Throughput: one granule a cycle, the same tile in consecutive cycles too.
module pooler #(
    parameter int O = 8,
    parameter int TILES = 512,
    parameter int TURNS = 1,
    parameter int BITS = $clog2(TILES)
) (
    input  logic               clk,
    input  logic               reset,
    input  logic [15:0]        tiles,
    input  logic               valid_in,
    input  logic               first,
    input  logic               last,
    input  logic [15:0]        tile,
    input  logic [O-1:0][7:0]  data_in,
    output logic               valid_out,
    output logic [O-1:0][31:0] sums
);
  // Reading the sum so far, then adding: the sum just written is taken past the memory.
  logic valid_1, first_1, last_1, passed;
  logic [BITS-1:0] tile_1;
  logic [O-1:0][7:0] data_1;
  logic [O-1:0][23:0] stored, previous, updated, written;
  logic draining, drain_valid;
  logic [15:0] drain;
  logic [7:0] turn;
  memory #(
      .WIDTH(O * 24),
      .DEPTH(TILES)
  ) totals (
      .clk,
      .write(valid_1),
      .write_address(tile_1),
      .write_data(updated),
      .read_address(draining ? BITS'(drain) : BITS'(tile)),
      .read_data(stored)
  );
  always_comb begin
    previous = passed ? written : stored;
    for (int o = 0; o < O; o++)
      updated[o] = (first_1 ? 24'd0 : previous[o]) + {{16{data_1[o][7]}}, data_1[o]};
  end
  always_ff @(posedge clk) begin
    valid_1 <= valid_in && !reset;
    first_1 <= first;
    last_1  <= last;
    tile_1  <= BITS'(tile);
    data_1  <= data_in;
    passed  <= valid_1 && tile_1 == BITS'(tile);
    written <= updated;
  end

  // All sums, one after the other.
  always_ff @(posedge clk) begin
    drain_valid <= draining && turn == 0 && !reset;
    if (reset) draining <= 1'b0;
    else if (valid_1 && last_1) begin
      draining <= 1'b1;
      drain    <= '0;
      turn     <= '0;
    end else if (draining) begin
      turn <= turn == 8'(TURNS - 1) ? '0 : turn + 1'b1;
      if (turn == 8'(TURNS - 1)) begin
        drain    <= drain + 1'b1;
        draining <= drain + 1'b1 != tiles;
      end
    end
  end
  assign valid_out = drain_valid;
  always_comb
    for (int o = 0; o < O; o++) sums[o] = {{8{stored[o][23]}}, stored[o]};
endmodule
