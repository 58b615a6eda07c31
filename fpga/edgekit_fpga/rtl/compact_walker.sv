// Visits the bytes of a layer's result in the order in which they are made, and says where each
// lies, and where the byte of the second operand lies that goes with it: y, x, channel; or, where
// `blocked`, block of 4 channels, y, x, channel of the block.
//
// Handshake: `start` begins with the first byte; from the next cycle on the addresses are those of the
// current byte until `step` moves on. `last` marks the final byte.
module compact_walker #(
    parameter int ADDRESS_BITS = 16
) (
    input  logic                    clk,
    input  logic                    start,
    input  logic                    step,
    input  npu_isa::instruction_t   instruction,
    input  logic                    blocked,
    output logic [ADDRESS_BITS-1:0] address,
    output logic [ADDRESS_BITS-1:0] second_address,
    output logic                    last
);
  logic [ADDRESS_BITS-1:0] row, next_row, pixel, second_row, next_second_row, second_pixel;
  logic [11:0] channel, next_channel, block, x, next_x, y, next_y;
  logic channel_last, all_channels, x_last, y_last;
  always_comb begin
    next_channel    = channel + 1'b1;
    next_x          = x + 1'b1;
    next_y          = y + 1'b1;
    all_channels    = next_channel == instruction.out_granules[11:0];
    channel_last    = all_channels || (blocked && next_channel[1:0] == 2'd0);
    x_last          = next_x == instruction.out_width[11:0];
    y_last          = next_y == instruction.out_height[11:0];
    next_row        = y_last ? ADDRESS_BITS'(instruction.out_base)
                    : row + ADDRESS_BITS'(instruction.out_row);
    next_second_row = y_last ? ADDRESS_BITS'(instruction.add_base)
                    : second_row + ADDRESS_BITS'(instruction.add_row);
    address         = pixel + ADDRESS_BITS'(channel);
    second_address  = second_pixel + ADDRESS_BITS'(channel);
    last            = all_channels && x_last && y_last;
  end
  always_ff @(posedge clk) begin
    if (step) begin
      channel <= channel_last ? block : next_channel;
      if (channel_last) begin
        x            <= x_last ? '0 : next_x;
        pixel        <= x_last ? next_row : pixel + ADDRESS_BITS'(instruction.out_pixel);
        second_pixel <= x_last ? next_second_row
                      : second_pixel + ADDRESS_BITS'(instruction.add_pixel);
        if (x_last) begin
          row        <= next_row;
          second_row <= next_second_row;
          y          <= y_last ? '0 : next_y;
          if (y_last) begin
            block   <= next_channel;
            channel <= next_channel;
          end
        end
      end
    end
    if (start) begin
      channel      <= '0;
      block        <= '0;
      x            <= '0;
      y            <= '0;
      row          <= ADDRESS_BITS'(instruction.out_base);
      pixel        <= ADDRESS_BITS'(instruction.out_base);
      second_row   <= ADDRESS_BITS'(instruction.add_base);
      second_pixel <= ADDRESS_BITS'(instruction.add_base);
    end
  end
endmodule
