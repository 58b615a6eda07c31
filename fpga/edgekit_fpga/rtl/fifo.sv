// A first-in-first-out queue whose oldest word is visible as long as `valid` is high.
//
// Handshake: `push` needs room, which the writer knows from its own count of words under way
// (readers of memories reserve room before they ask), or from `room`, which is a register and learns
// of a pop a cycle late; `pop` needs `valid`.
// Latency: a pushed word is visible in the next cycle. DEPTH is a power of two.
module fifo #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 8,
    parameter int BITS  = $clog2(DEPTH)
) (
    input  logic             clk,
    input  logic             reset,
    input  logic             push,
    input  logic [WIDTH-1:0] push_data,
    input  logic             pop,
    output logic             valid,
    output logic             room,
    output logic [WIDTH-1:0] data
);
  logic [WIDTH-1:0] slots[DEPTH];
  logic [BITS:0] head, tail, after, count;
  assign after = head + 1'b1;
  assign count = tail - head + (BITS + 1)'(push);
  assign data  = slots[head[BITS-1:0]];
  always_ff @(posedge clk) begin
    if (push) slots[tail[BITS-1:0]] <= push_data;
    if (reset) begin
      head  <= '0;
      tail  <= '0;
      valid <= 1'b0;
      room  <= 1'b1;
    end else begin
      if (push) tail <= tail + 1'b1;
      if (pop) head <= after;
      room  <= !count[BITS];
      valid <= push || (pop ? after != tail : valid);
    end
  end
endmodule
