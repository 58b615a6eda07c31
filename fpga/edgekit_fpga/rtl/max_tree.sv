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
  localparam int WIDTH = 1 << LEVELS;  // of the tree; places without a tap hold the smallest number
  logic [T-1:0] counts;
  always_ff @(posedge clk) for (int t = 0; t < T; t++) counts[t] <= 16'(t) < count;

  logic [WIDTH-1:0][O-1:0][7:0] leaves;
  always_comb
    for (int t = 0; t < WIDTH; t++)
      leaves[t] = t < T && counts[t%T] ? taps[t%T] : {O{8'h80}};

  function automatic logic [7:0] larger(logic [7:0] a, logic [7:0] b);
    larger = $signed(a) > $signed(b) ? a : b;
  endfunction
  // A heap: below node n are nodes 2n and 2n + 1, or leaves from WIDTH on.
  logic [WIDTH-1:1][O-1:0][7:0] best;
  always_ff @(posedge clk)
    for (int n = 1; n < WIDTH; n++)
      for (int o = 0; o < O; o++)
        if (2 * n < WIDTH) best[n][o] <= larger(best[2*n%WIDTH][o], best[(2*n+1)%WIDTH][o]);
        else best[n][o] <= larger(leaves[(2*n)%WIDTH][o], leaves[(2*n+1)%WIDTH][o]);
  assign largest = best[1];
endmodule
