// The largest int8 of the taps that are `used`, for each of O channels: a tree of one comparison a
// cycle. `used` stands from three cycles before the first taps on, and has one tap at least.
//
// Latency: $clog2(T) cycles, one set of taps a cycle. T is at least 2.
module max_tree #(
    parameter int O = 8,
    parameter int T = 16
) (
    input  logic                     clk,
    input  logic [T-1:0][O-1:0][7:0] taps,
    input  logic [T-1:0]             used,
    output logic [O-1:0][7:0]        largest
);
  localparam int WIDTH = 1 << $clog2(T);  // of the tree; the right ones of its places may have no tap

  // A heap: below node n are nodes 2n and 2n + 1, or taps from WIDTH on. A node counts if a tap below
  // it is used; what one that does not count holds is not looked at further up.
  logic [WIDTH-1:0] places_used;
  logic [2*WIDTH-1:1] counts;
  logic [WIDTH-1:1][O-1:0][7:0] best;
  assign places_used = WIDTH'(used);
  always_comb begin
    counts[2*WIDTH-1:WIDTH] = places_used;
    for (int n = WIDTH - 1; n > 0; n--) counts[n] = counts[2*n] || counts[2*n+1];
  end
  logic [WIDTH-1:1] left_counts, right_counts;
  always_ff @(posedge clk)
    for (int n = 1; n < WIDTH; n++) begin
      left_counts[n]  <= counts[2*n];
      right_counts[n] <= counts[2*n+1];
      for (int o = 0; o < O; o++)
        if (2 * n < WIDTH)
          best[n][o] <= larger(best[2*n%WIDTH][o], best[(2*n+1)%WIDTH][o], left_counts[n],
                               right_counts[n]);
        else
          best[n][o] <= larger(taps[2*n%WIDTH%T][o], taps[(2*n+1)%WIDTH%T][o], left_counts[n],
                               right_counts[n]);
    end
  assign largest = best[1];

  function automatic logic [7:0] larger(logic [7:0] left, logic [7:0] right, logic left_counts,
                                        logic right_counts);
    larger = right_counts && (!left_counts || $signed(right) > $signed(left)) ? right : left;
  endfunction
endmodule
