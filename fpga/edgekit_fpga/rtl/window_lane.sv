// One channel's part of module window: BITS of each of the T taps, in its three copies. It keeps what
// it is told in registers of its own, and so lies where its output lane does.
//
// Handshake: that of window, which decides; what it decides is done a cycle later.
module window_lane #(
    parameter int BITS = 8,
    parameter int B = 4,
    parameter int T = 16,
    parameter int S = 4,
    parameter int ROWS = (T + S - 1) / S
) (
    input  logic                   clk,
    input  logic                   chain,
    input  logic [ROWS-1:0]        moves,   // these rows of taps take a column in
    input  logic                   lay_by,  // the filled copy waits
    input  logic                   move,    // the one that waits is used
    input  logic [B-1:0][BITS-1:0] rows,
    output logic [T-1:0][BITS-1:0] taps
);
  logic lay_by_1, move_1;
  logic [ROWS-1:0] moves_1;
  logic [B-1:0][BITS-1:0] rows_1;
  logic [T-1:0][BITS-1:0] filling, waiting;
  always_ff @(posedge clk) begin
    lay_by_1 <= lay_by;
    move_1   <= move;
    moves_1  <= moves;
    rows_1   <= rows;
    for (int n = 0; n < T; n++)
      if (moves_1[n/S]) begin
        if (n == 0 || (n % S == 0 && n < S * S && !chain)) filling[n] <= rows_1[n/S%B];
        else filling[n] <= filling[(n+T-1)%T];
      end
    if (lay_by_1) waiting <= filling;
    if (move_1) taps <= waiting;
  end
endmodule
