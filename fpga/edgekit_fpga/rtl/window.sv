// The window of DWCONV and MAXPOOL: T words of I bytes, one word a tap, taps in the order
// ky * kernel_width + kx. Two copies: one that columns are shifted into, one that is being used.
//
// A column comes in groups of up to B rows. The first group shifts all words by one tap; every
// row then goes into the last tap of its kernel row.
//
// Handshake: `push` only while `ready`; `valid` stands until `done`, and in the cycle of `done` the
// next window moves in if it is complete, be it by that cycle's push. So a row's first window, all
// of whose columns are new, costs nothing where pixels take two cycles.
module window #(
    parameter int I = 16,
    parameter int B = 4,
    parameter int T = 16
) (
    input  logic                   clk,
    input  logic                   reset,
    input  npu_isa::instruction_t  instruction,
    input  logic                   grouped,
    input  logic                   push,
    input  logic [ B-1:0][I*8-1:0] rows,
    input  logic                   first_group,
    input  logic                   last,
    input  logic                   last_of_block,
    output logic                   ready,
    output logic                   valid,
    output logic [ T-1:0][I*8-1:0] taps,
    output logic                   ends_block,
    input  logic                   done
);
  logic [T-1:0][I*8-1:0] filling, filled;
  logic full, full_ends_block, completed, move;
  assign completed = push && last;
  assign move  = (full || completed) && (!valid || done);
  assign ready = !full || !valid || done;  // said without `push`, which waits for it

  // The last tap of each of the group's kernel rows, counted from the first group on.
  logic [15:0] width, group_start, position_base;
  logic [B-1:0][15:0] position;
  always_comb begin
    width = instruction.kernel_width;
    position_base = first_group ? 16'd0 : group_start;
    for (int k = 0; k < B; k++) position[k] = position_base + 16'(k + 1) * width - 16'd1;
    for (int n = 0; n < T; n++) begin
      filled[n] = first_group && n + 1 < T ? filling[(n+1)%T] : filling[n];
      for (int k = B - 1; k >= 0; k--)
        if ((k == 0 || grouped) && position[k] == 16'(n)) filled[n] = rows[k];
    end
  end
  always_ff @(posedge clk) begin
    if (push) begin
      filling     <= filled;
      group_start <= position_base + (grouped ? 16'(B) * width : width);
    end
    if (move) taps <= full ? filling : filled;
    if (reset) begin
      full  <= 1'b0;
      valid <= 1'b0;
    end else begin
      full <= full ? completed || !move : completed && !move;
      if (move) valid <= 1'b1;
      else if (done) valid <= 1'b0;
    end
    if (completed) full_ends_block <= last_of_block;
    if (move) ends_block <= full ? full_ends_block : last_of_block;
  end
endmodule
