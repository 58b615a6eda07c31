// A memory of 32-bit words with one port: each cycle one word is read, or some of its bytes written.
//
// Latency of a read: 1 cycle; the word stands for that cycle alone.
module compact_memory #(
    parameter int WORDS = 16384,
    parameter int BITS  = $clog2(WORDS)
) (
    input  logic            clk,
    input  logic [     3:0] write,       // one bit a byte
    input  logic [BITS-1:0] address,
    input  logic [    31:0] write_data,
    output logic [    31:0] read_data
);
  (* ram_style = "huge" *) logic [31:0] cells[WORDS];
  always_ff @(posedge clk) begin
    for (int b = 0; b < 4; b++) if (write[b]) cells[address][b*8+:8] <= write_data[b*8+:8];
    if (write == 4'd0) read_data <= cells[address];
  end
endmodule
