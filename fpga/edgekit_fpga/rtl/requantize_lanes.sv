// R requantizers that take a tile of O sums in O / R turns.
//
// A tile is taken in any cycle, but never sooner than O / R cycles after the one before. `tag`
// comes along and leaves with the tile's result.
//
// Latency: O / R + 12 cycles.
module requantize_lanes #(
    parameter int O = 8,
    parameter int R = 8
) (
    input  logic               clk,
    input  logic               reset,
    input  logic               valid_in,
    input  logic               tag_in,
    input  logic [O-1:0][31:0] sums,
    input  logic [O-1:0][63:0] entries,
    input  logic [7:0]         zero_point,
    input  logic [7:0]         low,
    input  logic [7:0]         high,
    output logic               valid_out,
    output logic               tag_out,
    output logic [O-1:0][7:0]  results
);
  localparam int TURNS = O / R;
  localparam int TURN_BITS = TURNS > 1 ? $clog2(TURNS) : 1;
  localparam int LATENCY = 11;

  logic [O-1:0][31:0] held_sums;
  logic [O-1:0][63:0] held_entries;
  logic busy, tag, last_turn;
  logic [TURN_BITS-1:0] turn;
  assign last_turn = turn == TURN_BITS'(TURNS - 1);
  always_ff @(posedge clk) begin
    if (valid_in) begin
      held_sums    <= sums;
      held_entries <= entries;
      tag          <= tag_in;
      turn         <= '0;
    end else begin
      held_sums    <= held_sums >> (R * 32);
      held_entries <= held_entries >> (R * 64);
      turn         <= turn + 1'b1;
    end
    if (reset) busy <= 1'b0;
    else busy <= valid_in || (busy && !last_turn);
  end

  logic [R-1:0][7:0] lane_results;
  genvar r;
  generate
    for (r = 0; r < R; r++) begin : g_lane
      requantizer lane (
          .clk,
          .accumulator(held_sums[r]),
          .bias(held_entries[r][31:0]),
          .multiplier(held_entries[r][55:32]),
          .shift(held_entries[r][61:56]),
          .zero_point,
          .low,
          .high,
          .result(lane_results[r])
      );
    end
  endgenerate

  logic [LATENCY-1:0] valids, lasts, tags;
  logic [O-1:0][7:0] gathered;
  assign gathered = (O * 8)'({lane_results, results} >> (R * 8));
  always_ff @(posedge clk) begin
    valids    <= reset ? '0 : {valids[LATENCY-2:0], busy};
    lasts     <= {lasts[LATENCY-2:0], last_turn};
    tags      <= {tags[LATENCY-2:0], tag};
    if (valids[LATENCY-1]) results <= gathered;
    valid_out <= !reset && valids[LATENCY-1] && lasts[LATENCY-1];
    tag_out   <= tags[LATENCY-1];
  end
endmodule
