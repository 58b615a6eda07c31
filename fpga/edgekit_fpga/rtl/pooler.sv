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
  // A granule comes in stage 0, its sum so far is asked for in stage 1 and waits in stage 3; in stage 4
  // the granule is added, in stage 5 the new sum is written. The sums of the five granules before may
  // not be in memory when it is asked. That of the one just before is taken when the granule is added,
  // those of the others a stage sooner.
  localparam int WRITE = 5;
  logic [WRITE:1] valids, firsts, lasts;
  logic [WRITE:1][BITS-1:0] tiles_under_way;
  logic [4:1][O-1:0][7:0] data;
  logic [WRITE:1] same, same_2, same_3;  // the granule so many before is of the same tile
  logic from_newest;
  logic [O-1:0][23:0] stored, stored_3, base, updated;
  logic [WRITE-1:1][O-1:0][23:0] sum_before;  // of the granule so many before
  logic draining;
  logic [2:0] drain_valid;
  logic [15:0] drain;
  logic [7:0] turn;
  logic [BITS-1:0] address;
  memory #(
      .WIDTH(O * 24),
      .DEPTH(TILES)
  ) totals (
      .clk,
      .write(valids[WRITE]),
      .write_address(tiles_under_way[WRITE]),
      .write_data(sum_before[1]),
      .read_address(address),
      .read_data(stored)
  );
  always_comb
    for (int o = 0; o < O; o++)
      updated[o] = (from_newest ? sum_before[1][o] : base[o]) + {{16{data[4][o][7]}}, data[4][o]};
  always_ff @(posedge clk) begin
    address         <= draining ? BITS'(drain) : BITS'(tile);
    valids          <= reset ? '0 : {valids[WRITE-1:1], valid_in};
    firsts          <= {firsts[WRITE-1:1], first};
    lasts           <= {lasts[WRITE-1:1], last};
    tiles_under_way <= {tiles_under_way[WRITE-1:1], BITS'(tile)};
    data            <= {data[3:1], data_in};
    stored_3        <= stored;
    sum_before      <= {sum_before[WRITE-2:1], updated};
    for (int k = 1; k <= WRITE; k++)
      same[k] <= valids[k] && BITS'(tile) == tiles_under_way[k];
    same_2      <= same;
    same_3      <= same_2;
    from_newest <= same_3[1] && !firsts[3];
    base        <= firsts[3] ? '0 : same_3[2] ? sum_before[1] : same_3[3] ? sum_before[2]
                 : same_3[4] ? sum_before[3] : same_3[5] ? sum_before[4] : stored_3;
  end

  // All sums, one after the other.
  always_ff @(posedge clk) begin
    drain_valid <= reset ? '0 : {drain_valid[1:0], draining && turn == 0};
    if (reset) draining <= 1'b0;
    else if (valids[WRITE] && lasts[WRITE]) begin
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
  assign valid_out = drain_valid[2];
  always_comb
    for (int o = 0; o < O; o++) sums[o] = {{8{stored_3[o][23]}}, stored_3[o]};
endmodule
