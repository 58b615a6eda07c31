// The largest int8 of the first `count` taps, for each of O channels.
//
// Latency: 2 cycles, one set of taps a cycle.
module max_tree #(
    parameter int O = 8,
    parameter int T = 16
) (
    input  logic                     clk,
    input  logic [T-1:0][O-1:0][7:0] taps,
    input  logic [15:0]              count,
    output logic [O-1:0][7:0]        largest
);
  localparam int GROUPS = (T + 3) / 4;
  logic [GROUPS-1:0][O-1:0][7:0] partial;
  function automatic logic [7:0] larger(logic [7:0] a, logic [7:0] b);
    larger = $signed(a) > $signed(b) ? a : b;
  endfunction
  always_ff @(posedge clk) begin
    for (int o = 0; o < O; o++) begin
      logic [7:0] best;
      for (int g = 0; g < GROUPS; g++) begin
        best = 8'h80;
        for (int t = 4 * g; t < 4 * g + 4 && t < T; t++)
          if (16'(t) < count) best = larger(best, taps[t][o]);
        partial[g][o] <= best;
      end
      best = 8'h80;
      for (int g = 0; g < GROUPS; g++) best = larger(best, partial[g][o]);
      largest[o] <= best;
    end
  end
endmodule
