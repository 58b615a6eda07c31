// Receives bytes from an asynchronous serial line: 8 data bits, low bit first, no parity, 1 stop bit.
//
// Handshake: `valid` is high for one cycle with each byte. `broken` is high for one cycle where the
// line stayed low for a whole byte and its stop bit, which a sender calls a break. A byte whose stop
// bit is missing otherwise is left out.
module uart_receiver #(
    parameter int CLOCKS_PER_BIT = 40
) (
    input  logic       clk,
    input  logic       reset,
    input  logic       rx,
    output logic       valid,
    output logic [7:0] data,
    output logic       broken
);
  localparam int BITS = $clog2(CLOCKS_PER_BIT);
  logic [2:0] line;              // two registers against metastability, then one in use
  logic [BITS-1:0] wait_left;
  logic [3:0] bit_number;        // 0 start, 1 to 8 data, 9 stop
  logic receiving, idle_seen;
  always_ff @(posedge clk) begin
    line   <= {line[1:0], rx};
    valid  <= 1'b0;
    broken <= 1'b0;
    if (!receiving) begin
      if (line[2]) idle_seen <= 1'b1;
      else if (idle_seen) begin
        receiving  <= 1'b1;
        bit_number <= '0;
        wait_left  <= BITS'(CLOCKS_PER_BIT / 2 - 1);
      end
    end else if (wait_left != 0) wait_left <= wait_left - 1'b1;
    else begin
      wait_left  <= BITS'(CLOCKS_PER_BIT - 1);
      bit_number <= bit_number + 1'b1;
      if (bit_number == 0) receiving <= !line[2];  // else it was a spike
      else if (bit_number <= 4'd8) data <= {line[2], data[7:1]};
      else begin
        receiving <= 1'b0;
        idle_seen <= line[2];
        valid     <= line[2];
        broken    <= !line[2] && data == 8'd0;
      end
    end
    if (reset) begin
      receiving <= 1'b0;
      idle_seen <= 1'b0;
    end
  end
endmodule
