// Sends bytes over an asynchronous serial line: 8 data bits, low bit first, no parity, 1 stop bit.
//
// Handshake: a byte is taken where `valid` meets `ready`.
module uart_transmitter #(
    parameter int CLOCKS_PER_BIT = 40
) (
    input  logic       clk,
    input  logic       reset,
    input  logic       valid,
    output logic       ready,
    input  logic [7:0] data,
    output logic       tx
);
  localparam int BITS = $clog2(CLOCKS_PER_BIT);
  logic [9:0] shift;
  logic [3:0] left;              // bits still to send, the one on the line included
  logic [BITS-1:0] wait_left;
  assign ready = left == 0;
  assign tx    = left == 0 || shift[0];
  always_ff @(posedge clk) begin
    if (ready) begin
      shift     <= {1'b1, data, 1'b0};
      wait_left <= BITS'(CLOCKS_PER_BIT - 1);
      if (valid) left <= 4'd10;
    end else if (wait_left != 0) wait_left <= wait_left - 1'b1;
    else begin
      wait_left <= BITS'(CLOCKS_PER_BIT - 1);
      shift     <= {1'b1, shift[9:1]};
      left      <= left - 1'b1;
    end
    if (reset) left <= '0;
  end
endmodule
