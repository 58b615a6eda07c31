// The window of DWCONV and MAXPOOL: T words of I bytes, one word a tap. Three copies: one that columns
// are shifted into, one that waits, one that is being used. The one that waits makes up for a row's
// first window, all of whose columns are new. This module decides; the words are in O parts, window_lane,
// one for each output lane: its channel of all I / O tiles.
//
// `grouped`: the taps are a grid of S rows and S columns, tap r * S + c, and every kernel row is one of
// its rows. A column comes in groups of up to B rows, each of which enters its row at c = 0. Else all
// taps are one chain, and every row of a column, which comes alone, enters at tap 0. Either way the
// newest column has the lowest numbers, and no word ever moves but to the next tap.
//
// Handshake: a group is taken where `push` meets `ready`, and waits in a register first. `complete`
// is high for a cycle for every window, with `ends_block`; from two cycles later on `done` may say that
// it was used, and in the cycle after `done` it is in `taps` for the last time. All data follow what is
// decided on them a cycle later, so that registers enable registers. `grouped` stands from three cycles
// before the first group on; `used`, the taps that the kernel has, two cycles after it.
module window #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int T = 16,
    parameter int S = 4
) (
    input  logic                   clk,
    input  logic                   reset,
    input  npu_isa::instruction_t  instruction,
    input  npu_setup::setup_t      setup,
    input  logic                   grouped,
    input  logic                   push,
    input  logic [ B-1:0][I*8-1:0] rows,
    input  logic                   first_group,
    input  logic                   last,
    input  logic                   last_of_block,
    output logic                   ready,
    output logic                   complete,
    output logic                   ends_block,
    output logic [ O-1:0][T-1:0][I/O-1:0][7:0] taps,  // by lane
    output logic [ T-1:0]          used,
    input  logic                   done
);
  localparam int N = I / O;
  localparam int ROWS = (T + S - 1) / S;     // of S taps, those that only a chain has counted
  localparam int GROUPS = (S + B - 1) / B;   // in which a column comes
  localparam int TAP_BITS = $clog2(T + 1);
  localparam int GROUP_BITS = $clog2(GROUPS + 1);

  logic chain;
  always_ff @(posedge clk) begin
    chain <= !grouped;
    for (int n = 0; n < T; n++)
      if (chain) used[n] <= TAP_BITS'(n) < TAP_BITS'(setup.taps);
      else
        used[n] <= n < S * S && TAP_BITS'(n / S) < TAP_BITS'(instruction.kernel_height)
                && TAP_BITS'(n % S) < TAP_BITS'(instruction.kernel_width);
  end

  // ---- a group waits: its rows, and which rows of taps they move
  logic held, held_last, held_last_of_block, take;
  logic [B-1:0][I*8-1:0] held_rows;
  logic [ROWS-1:0] moves;
  logic [GROUP_BITS-1:0] group, group_now;
  assign group_now = first_group ? '0 : group;
  assign ready = !held || take;
  always_ff @(posedge clk) begin
    if (push && ready) begin
      held_rows          <= rows;
      held_last          <= last;
      held_last_of_block <= last_of_block;
      group              <= group_now + 1'b1;
      for (int r = 0; r < ROWS; r++) moves[r] <= chain || group_now == GROUP_BITS'(r / B);
    end
    if (reset) held <= 1'b0;
    else held <= ready ? push : 1'b1;
  end

  // ---- into the window, and on
  logic full, waits, valid, lay_by, move;
  assign move   = waits && (!valid || done);
  assign lay_by = full && (!waits || move);
  assign take   = held && (!full || lay_by);
  genvar o;
  generate
    for (o = 0; o < O; o++) begin : g_lane
      logic [B*N*8-1:0] lane_rows;
      always_comb
        for (int k = 0; k < B * N; k++) lane_rows[k*8+:8] = held_rows[k/N][(k%N*O+o)*8+:8];
      window_lane #(
          .BITS(N * 8),
          .B(B),
          .T(T),
          .S(S)
      ) lane (
          .clk,
          .chain,
          .moves(moves & {ROWS{take}}),
          .lay_by,
          .move,
          .rows(lane_rows),
          .taps(taps[o])
      );
    end
  endgenerate
  always_ff @(posedge clk) begin
    ends_block <= held_last_of_block;
    if (reset) begin
      complete <= 1'b0;
      full     <= 1'b0;
      waits    <= 1'b0;
      valid    <= 1'b0;
    end else begin
      complete <= take && held_last;
      full     <= (take && held_last) || (full && !lay_by);
      waits    <= lay_by || (waits && !move);
      valid    <= move || (valid && !done);
    end
  end
endmodule
