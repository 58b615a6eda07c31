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
  // A granule comes in stage 0, where its sum so far is asked for; the memory gives it in stage 1, in
  // stage 2 the granule is added, in stage 3 the new sum is written. Sums of the three granules before
  // may not be in memory when it is asked, and are taken from where they are.
  logic [4:1] valids;
  logic [3:1] firsts, lasts;
  logic [4:1][BITS-1:0] tiles_under_way;
  logic [O-1:0][7:0] data_1, data_2;
  logic [3:1] same;  // the granule so many before is of the same tile
  logic [O-1:0][23:0] stored, stored_2, previous, updated;
  logic [3:1][O-1:0][23:0] sum_before;  // of the granule so many before
  logic draining;
  logic [1:0] drain_valid;
  logic [15:0] drain;
  logic [7:0] turn;
  memory #(
      .WIDTH(O * 24),
      .DEPTH(TILES)
  ) totals (
      .clk,
      .write(valids[3]),
      .write_address(tiles_under_way[3]),
      .write_data(sum_before[1]),
      .read_address(draining ? BITS'(drain) : BITS'(tile)),
      .read_data(stored)
  );
  always_comb begin
    previous = same[1] ? sum_before[1] : same[2] ? sum_before[2]
             : same[3] ? sum_before[3] : stored_2;
    for (int o = 0; o < O; o++)
      updated[o] = (firsts[2] ? 24'd0 : previous[o]) + {{16{data_2[o][7]}}, data_2[o]};
  end
  always_ff @(posedge clk) begin
    valids          <= reset ? '0 : {valids[3:1], valid_in};
    firsts          <= {firsts[2:1], first};
    lasts           <= {lasts[2:1], last};
    tiles_under_way <= {tiles_under_way[3:1], BITS'(tile)};
    data_1          <= data_in;
    data_2          <= data_1;
    stored_2        <= stored;
    sum_before      <= {sum_before[2:1], updated};
    for (int k = 1; k <= 3; k++)
      same[k] <= valids[k+1] && tiles_under_way[1] == tiles_under_way[k+1];
  end

  // All sums, one after the other.
  always_ff @(posedge clk) begin
    drain_valid <= reset ? '0 : {drain_valid[0], draining && turn == 0};
    if (reset) draining <= 1'b0;
    else if (valids[3] && lasts[3]) begin
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
  assign valid_out = drain_valid[1];
  always_comb
    for (int o = 0; o < O; o++) sums[o] = {{8{stored_2[o][23]}}, stored_2[o]};
endmodule
