// The data of one output lane in a beat: the vector that all lanes share, or taps of its channel; and
// the largest of these taps. It keeps the choice in registers of its own, and so lies where its
// multipliers do.
//
// Timing: cycles are those of feeder. What a beat takes is told in cycle 1, `data` are there in cycle 4,
// the largest tap as much after cycle 3 as max_tree takes.
module beat_lane #(
    parameter int I = 16,
    parameter int N = 2,
    parameter int T = 16,
    parameter int WORDS = (T + I - 1) / I,
    parameter int TILE_BITS = N > 1 ? $clog2(N) : 1
) (
    input  logic                      clk,
    input  logic                      is_window,
    input  logic [WORDS-1:0]          step_is_1,      // which part of the window
    input  logic [TILE_BITS-1:0]      tile_of_block,  // in cycle 1
    input  logic [T-1:0][N-1:0][7:0]  taps,           // its channel of each tile of the block
    input  logic [T-1:0]              used,           // taps that the kernel has
    input  logic [I-1:0][7:0]         vector_3,
    output logic [I-1:0][7:0]         data,
    output logic [7:0]                largest
);
  logic [T-1:0][7:0] taps_3;
  max_tree #(
      .T(T)
  ) maximum (
      .clk,
      .taps(taps_3),
      .used,
      .largest
  );

  logic [WORDS-1:0] step_is_2, takes_3;
  logic [TILE_BITS-1:0] tile_2;
  always_ff @(posedge clk) begin
    step_is_2 <= step_is_1;
    takes_3   <= step_is_2 & {WORDS{is_window}};
    tile_2    <= tile_of_block;
    for (int t = 0; t < T; t++) taps_3[t] <= taps[t][tile_2];
    data <= vector_3;
    for (int w = 0; w < WORDS; w++)
      if (takes_3[w])
        for (int i = 0; i < I; i++) data[i] <= w * I + i < T ? taps_3[(w*I+i)%T] : '0;
  end
endmodule
