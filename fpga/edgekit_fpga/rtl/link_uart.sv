// Bytes over two wires: 8 data bits, no parity, one stop bit.
//
// Handshake: `received` is high for one cycle with `received_byte`; a byte to send is taken where
// `send` meets `send_ready`. A line held low past a whole byte is a break: `broken` stands until it
// is high again.
module link_uart #(
    parameter int CLOCKS_PER_BIT = 8
) (
    input  logic       clk,
    input  logic       reset,
    input  logic       rx,
    output logic       tx,
    output logic       received,
    output logic [7:0] received_byte,
    output logic       broken,
    input  logic       send,
    output logic       send_ready,
    input  logic [7:0] send_byte
);
  localparam int BITS = $clog2(CLOCKS_PER_BIT);
  localparam logic [BITS-1:0] WHOLE = BITS'(CLOCKS_PER_BIT - 1);
  localparam logic [BITS-1:0] HALF = BITS'(CLOCKS_PER_BIT / 2);

  // ---- in: the start bit is looked at in its middle, every other a whole bit later
  logic [2:0] line;
  logic [BITS-1:0] in_clock;
  logic [3:0] in_bit;
  logic listening;
  always_ff @(posedge clk) begin
    line     <= {line[1:0], rx};
    received <= 1'b0;
    if (line[2]) broken <= 1'b0;
    if (!listening) begin
      in_clock  <= HALF;
      in_bit    <= '0;
      listening <= !line[2] && !broken;
    end else begin
      in_clock <= in_clock == 0 ? WHOLE : in_clock - 1'b1;
      if (in_clock == 0) begin
        in_bit <= in_bit + 1'b1;
        if (in_bit == 4'd9) begin
          listening <= 1'b0;
          received  <= line[2];
          broken    <= !line[2];
        end else if (in_bit == 0) listening <= !line[2];
        else received_byte <= {line[2], received_byte[7:1]};
      end
    end
    if (reset) begin
      line      <= '1;
      listening <= 1'b0;
      broken    <= 1'b0;
      received  <= 1'b0;
    end
  end

  // ---- out
  logic [8:0] leaving;
  logic [BITS-1:0] out_clock;
  logic [3:0] out_bit;
  assign send_ready = out_bit == 0;
  always_ff @(posedge clk) begin
    if (send_ready) begin
      out_clock <= WHOLE;
      if (send) begin
        leaving <= {send_byte, 1'b0};
        out_bit <= 4'd10;
      end
    end else begin
      out_clock <= out_clock == 0 ? WHOLE : out_clock - 1'b1;
      if (out_clock == 0) begin
        leaving <= {1'b1, leaving[8:1]};
        out_bit <= out_bit - 1'b1;
      end
    end
    if (reset) out_bit <= '0;
    tx <= reset || send_ready || leaving[0];
  end
endmodule
