// Reads granules of activation memory for the host and cuts them into 32-bit words.
//
// Handshake: `read` (one cycle) begins at `read_address` (bank in bits 24-31, granule below) and
// takes `read_count` granules; `reading` until the last word has gone, which `out_last` marks.
// out_valid/out_ready as in AXI4-Stream. A granule takes O / 4 + 6 cycles.
module unloader #(
    parameter int O = 8
) (
    input  logic           clk,
    input  logic           reset,
    input  logic           read,
    input  logic [   31:0] read_address,
    input  logic [   23:0] read_count,
    output logic           reading,
    output logic           host_read,
    output logic [   31:0] host_address,
    input  logic [O*8-1:0] host_data,      // at most 5 cycles after the address
    output logic           out_valid,
    input  logic           out_ready,
    output logic [   31:0] out_data,
    output logic           out_last
);
  localparam int PIECES = O > 4 ? O / 4 : 1;
  logic [23:0] missing;
  logic [2:0] waited;
  logic [7:0] piece;
  logic [PIECES*32-1:0] held;
  assign host_read = reading;
  assign out_data  = held[31:0];
  assign out_last  = missing == 24'd1 && piece == 8'(PIECES - 1);
  always_ff @(posedge clk) begin
    if (!reading) begin
      reading      <= read && read_count != 0;
      missing      <= read_count;
      host_address <= read_address;
      waited       <= '0;
    end else if (!out_valid) begin
      waited <= waited + 1'b1;
      if (waited == 3'd5) begin
        held      <= (PIECES * 32)'(host_data);
        out_valid <= 1'b1;
        piece     <= '0;
      end
    end else if (out_ready) begin
      held  <= (PIECES * 32)'({held, held} >> 32);  // round: zeros would be a reset
      piece <= piece + 1'b1;
      if (piece == 8'(PIECES - 1)) begin
        out_valid    <= 1'b0;
        waited       <= '0;
        missing      <= missing - 1'b1;
        host_address <= host_address + 1'b1;
        reading      <= missing != 24'd1;
      end
    end
    if (reset) begin
      reading   <= 1'b0;
      out_valid <= 1'b0;
    end
  end
endmodule
