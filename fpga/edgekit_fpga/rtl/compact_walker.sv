// Visits the bytes of a tensor in the order in which a layer makes its output, and says where each
// lies: y, x, channel; or, where `blocked`, block of 4 channels, y, x, channel of the block.
//
// Handshake: `start` loads the tensor; from the next cycle on `address` is that of the current byte
// until `step` moves on. `last` marks the final byte.
module compact_walker #(
    parameter int ADDRESS_BITS = 16
) (
    input  logic                    clk,
    input  logic                    start,
    input  logic                    step,
    input  logic                    blocked,
    input  logic [            23:0] base,
    input  logic [            15:0] row,
    input  logic [            11:0] pixel,
    input  logic [            15:0] height,
    input  logic [            15:0] width,
    input  logic [            15:0] channels,
    output logic [ADDRESS_BITS-1:0] address,
    output logic                    last
);
  logic [ADDRESS_BITS-1:0] row_start, next_row, pixel_start;
  logic [15:0] channel, next_channel, block, x, next_x, y, next_y;
  logic channel_last, all_channels, x_last, y_last;
  always_comb begin
    next_channel = channel + 1'b1;
    next_x       = x + 1'b1;
    next_y       = y + 1'b1;
    all_channels = next_channel == channels;
    channel_last = all_channels || (blocked && next_channel[1:0] == 2'd0);
    x_last       = next_x == width;
    y_last       = next_y == height;
    next_row     = y_last ? ADDRESS_BITS'(base) : row_start + ADDRESS_BITS'(row);
    address      = pixel_start + ADDRESS_BITS'(channel);
    last         = all_channels && x_last && y_last;
  end
  always_ff @(posedge clk) begin
    if (step) begin
      channel <= channel_last ? block : next_channel;
      if (channel_last) begin
        x           <= x_last ? '0 : next_x;
        pixel_start <= x_last ? next_row : pixel_start + ADDRESS_BITS'(pixel);
        if (x_last) begin
          row_start <= next_row;
          y         <= y_last ? '0 : next_y;
          if (y_last) begin
            block   <= next_channel;
            channel <= next_channel;
          end
        end
      end
    end
    if (start) begin
      channel     <= '0;
      block       <= '0;
      x           <= '0;
      y           <= '0;
      row_start   <= ADDRESS_BITS'(base);
      pixel_start <= ADDRESS_BITS'(base);
    end
  end
endmodule
