// A memory with one write port and one read port, both synchronous, for places where nobody reads
// the word that is being written: the small parts' block memory gives either word then, and logic
// that tells them apart is not needed.
//
// Latency of a read: 1 cycle.
module compact_store #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 512,
    parameter int BITS  = $clog2(DEPTH)
) (
    input  logic             clk,
    input  logic             write,
    input  logic [ BITS-1:0] write_address,
    input  logic [WIDTH-1:0] write_data,
    input  logic [ BITS-1:0] read_address,
    output logic [WIDTH-1:0] read_data
);
  (* no_rw_check *) logic [WIDTH-1:0] cells[DEPTH];
  always_ff @(posedge clk) begin
    if (write) cells[write_address] <= write_data;
    read_data <= cells[read_address];
  end
endmodule
