// A memory with registers of its own before everything that goes in. A wide one whose cells lie all
// over the chip is made of several of these, so that no address has to reach all of it in a cycle.
//
// Latency of a read: 3 cycles; of a write one more than that of module memory.
module remote_memory #(
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
  logic write_1;
  logic [BITS-1:0] write_address_1, read_address_1;
  logic [WIDTH-1:0] write_data_1;
  always_ff @(posedge clk) begin
    write_1         <= write;
    write_address_1 <= write_address;
    write_data_1    <= write_data;
    read_address_1  <= read_address;
  end
  memory #(
      .WIDTH(WIDTH),
      .DEPTH(DEPTH),
      .LATENCY(2)
  ) cells (
      .clk,
      .write(write_1),
      .write_address(write_address_1),
      .write_data(write_data_1),
      .read_address(read_address_1),
      .read_data
  );
endmodule
