// The largest int8 of the taps that are `used`: a tree of one comparison a cycle. `used` stands from
// three cycles before the first taps on, and has one tap at least.
//
// Latency: $clog2(T) cycles, one set of taps a cycle. T is at least 2.
module max_tree #(
    parameter int T = 16
) (
    input  logic              clk,
    input  logic [T-1:0][7:0] taps,
    input  logic [T-1:0]      used,
    output logic [7:0]        largest
);
  localparam int WIDTH = 1 << $clog2(T);  // of the tree; the right ones of its places may have no tap

  // A heap: below node n are nodes 2n and 2n + 1, or taps from WIDTH on. A node counts if a tap below
  // it is used; one that does not is smaller than any that does.
  logic [2*WIDTH-1:1] counts;
  logic [WIDTH-1:1] left_counts, right_counts;
  logic [WIDTH-1:1][7:0] best;
  always_comb
    for (int n = 2 * WIDTH - 1; n > 0; n--)
      counts[n] = n < WIDTH ? counts[2*n%(2*WIDTH)] || counts[(2*n+1)%(2*WIDTH)]
                : n - WIDTH < T && used[(n-WIDTH)%T];
  always_ff @(posedge clk)
    for (int n = 1; n < WIDTH; n++) begin
      left_counts[n]  <= counts[2*n];
      right_counts[n] <= counts[2*n+1];
      if (2 * n < WIDTH)
        best[n] <= larger(left_counts[n], best[2*n%WIDTH], right_counts[n], best[(2*n+1)%WIDTH]);
      else
        best[n] <= larger(left_counts[n], taps[2*n%WIDTH%T], right_counts[n], taps[(2*n+1)%WIDTH%T]);
    end
  assign largest = best[1];

  // What does not count is a number of 9 bits below all that do, so that one comparison decides.
  function automatic logic [7:0] larger(logic a_counts, logic [7:0] a, logic b_counts, logic [7:0] b);
    larger = {b_counts, ~b[7], b[6:0]} > {a_counts, ~a[7], a[6:0]} ? b : a;
  endfunction
endmodule
