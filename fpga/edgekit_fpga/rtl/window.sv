// The window of DWCONV and MAXPOOL: T words of I bytes, one word a tap, taps in the order
// ky * kernel_width + kx. Three copies: one that columns are shifted into, one that waits, one that is
// being used. The one that waits makes up for a row's first window, all of whose columns are new.
//
// A column comes in groups of up to B rows. The first group shifts all words by one tap; every
// row then goes into the last tap of its kernel row. Which taps those are, and which group and row
// of it they wait for, is made of the kernel's width in the first three cycles of the layer.
//
// Handshake: a group is taken where `push` meets `ready`, and waits in a register first. `complete`
// is high for a cycle for every window, with `ends_block`; from two cycles later on `done` may say that
// it was used, and in the cycle after `done` it is in `taps` for the last time. All data follow what is
// decided on them a cycle later, so that registers enable registers.
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
    output logic                   complete,
    output logic                   ends_block,
    output logic [ T-1:0][I*8-1:0] taps,
    input  logic                   done
);
  localparam int GROUP_BITS = $clog2(T + 1);

  // ---- once a layer: the tap's kernel row ends there; the group and the row it comes as
  logic [T-1:0] ends;
  logic [T-1:0][GROUP_BITS-1:0] group_of;
  logic [T-1:0][B-1:0] row_of;
  logic [T:1] width_is;
  always_ff @(posedge clk) begin
    for (int w = 1; w <= T; w++) width_is[w] <= instruction.kernel_width == 16'(w);
    for (int n = 0; n < T; n++) begin
      ends[n]     <= 1'b0;
      group_of[n] <= '0;
      row_of[n]   <= B'(1);
      for (int w = 1; w <= n + 1; w++)
        if ((n + 1) % w == 0 && width_is[w]) begin
          ends[n]     <= 1'b1;
          group_of[n] <= GROUP_BITS'(grouped ? ((n + 1) / w - 1) / B : (n + 1) / w - 1);
          if (grouped) row_of[n] <= B'(1 << (((n + 1) / w - 1) % B));
        end
    end
  end

  // ---- a group waits: its rows, and which taps take which of them
  logic held, held_last, held_last_of_block, shift, take;
  logic [B-1:0][I*8-1:0] held_rows;
  logic [T-1:0][B-1:0] takes;
  logic [GROUP_BITS-1:0] group, group_now;
  assign group_now = first_group ? '0 : group;
  assign ready = !held || take;
  always_ff @(posedge clk) begin
    if (push && ready) begin
      held_rows          <= rows;
      held_last          <= last;
      held_last_of_block <= last_of_block;
      shift              <= first_group;
      group              <= group_now + 1'b1;
      for (int n = 0; n < T; n++)
        takes[n] <= ends[n] && group_of[n] == group_now ? row_of[n] : '0;
    end
    if (reset) held <= 1'b0;
    else held <= ready ? push : 1'b1;
  end

  // ---- into the window, and on
  logic [T-1:0][I*8-1:0] filling, filled, waiting;
  logic full, waits, valid, lay_by, move;
  assign move   = waits && (!valid || done);
  assign lay_by = full && (!waits || move);
  assign take   = held && (!full || lay_by);
  logic take_1, lay_by_1, move_1, shift_1;
  logic [B-1:0][I*8-1:0] rows_1;
  logic [T-1:0][B-1:0] takes_1;
  logic [T-1:0] keeps_1;  // no row comes into this tap
  always_ff @(posedge clk) begin
    take_1   <= take;
    lay_by_1 <= lay_by;
    move_1   <= move;
    shift_1  <= shift;
    rows_1   <= held_rows;
    takes_1  <= takes;
    for (int n = 0; n < T; n++) keeps_1[n] <= takes[n] == 0;
  end
  always_comb
    for (int n = 0; n < T; n++) begin
      filled[n] = (shift_1 && n + 1 < T ? filling[(n+1)%T] : filling[n]) & {I * 8{keeps_1[n]}};
      for (int k = 0; k < B; k++)
        if (comes_as(n, k)) filled[n] = filled[n] | (rows_1[k] & {I * 8{takes_1[n][k]}});
    end
  always_ff @(posedge clk) begin
    if (take_1) filling <= filled;
    if (lay_by_1) waiting <= filling;
    if (move_1) taps <= waiting;
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

  // Whether a kernel of any width lets tap n come as row k of a group.
  function automatic logic comes_as(int n, int k);
    comes_as = k == 0;
    for (int w = 1; w <= n + 1; w++)
      if ((n + 1) % w == 0 && ((n + 1) / w - 1) % B == k) comes_as = 1'b1;
  endfunction
endmodule
