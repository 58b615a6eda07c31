// The largest int8 of the first `count` taps, for each of O channels: a tree of one comparison a
// cycle. `count` stands from three cycles before the first taps on.
//
// Latency: $clog2(T) cycles, one set of taps a cycle. T is at least 2.
module max_tree #(
    parameter int O = 8,
    parameter int T = 16
) (
    input  logic                     clk,
    input  logic [T-1:0][O-1:0][7:0] taps,
    input  logic [15:0]              count,
    output logic [O-1:0][7:0]        largest
);
  localparam int LEVELS = $clog2(T);
  localparam int WIDTH = 1 << LEVELS;  // of the tree; the right ones of its places may have no tap

  // A heap: below node n are nodes 2n and 2n + 1, or taps from WIDTH on. The right one counts if its
  // first tap does; what a left one without taps holds is not looked at further up.
  logic [WIDTH-1:1] right_counts;
  logic [WIDTH-1:1][O-1:0][7:0] best;
  always_ff @(posedge clk)
    for (int n = 1; n < WIDTH; n++) begin
      right_counts[n] <= 16'(first_tap(2 * n + 1)) < count;
      for (int o = 0; o < O; o++)
        if (2 * n < WIDTH)
          best[n][o] <= larger(best[2*n%WIDTH][o], best[(2*n+1)%WIDTH][o], right_counts[n]);
        else
          best[n][o] <= larger(taps[2*n%WIDTH%T][o], taps[(2*n+1)%WIDTH%T][o], right_counts[n]);
    end
  assign largest = best[1];

  function automatic int first_tap(int n);
    first_tap = n;
    for (int level = 0; level < LEVELS; level++)
      if (first_tap < WIDTH) first_tap = 2 * first_tap;
    first_tap = first_tap - WIDTH;
  endfunction
  function automatic logic [7:0] larger(logic [7:0] left, logic [7:0] right, logic both);
    larger = both && $signed(right) > $signed(left) ? right : left;
  endfunction
endmodule
