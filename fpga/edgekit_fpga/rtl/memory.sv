// A memory with one write port and one read port, both synchronous; read data lasts until the next
// read. A read of the word being written in the same cycle returns the old one.
//
// Latency of a read: 1 cycle.
module memory #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 16,
    parameter int BITS  = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input  logic             clk,
    input  logic             write,
    input  logic [ BITS-1:0] write_address,
    input  logic [WIDTH-1:0] write_data,
    input  logic [ BITS-1:0] read_address,
    output logic [WIDTH-1:0] read_data
);
  // nobody reads a word in the cycle it is written: no logic is spent on that case
  (* no_rw_check *)
  logic [WIDTH-1:0] cells[DEPTH];
  always_ff @(posedge clk) begin
    if (write) cells[write_address] <= write_data;
    read_data <= cells[read_address];
  end
endmodule
