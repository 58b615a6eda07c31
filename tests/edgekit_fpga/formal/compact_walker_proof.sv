// The compact core's walker against the nested loops it stands for: y, x, channel; or block of 4
// channels, y, x, channel of the block. Bytes of the result and of the second operand lie where the
// memory layout of docs/npu-isa.md says (B = O = 1), and `last` comes with the last one.
module compact_walker_proof #(
    parameter int STALLS = 0  // `step` may be low, for the first steps of the loops only
) (
    input logic                  clk,
    input logic                  step,
    input logic                  blocked,
    input npu_isa::instruction_t given
);
  logic age = 0;
  npu_isa::instruction_t instruction;
  logic [15:0] address, second_address;
  logic last;
  assign instruction = given;
  compact_walker dut (
      .clk,
      .start(!age),
      .step(step && age),
      .instruction,
      .blocked,
      .address,
      .second_address,
      .last
  );

  // the layer's description stands; sizes are small enough for the steps that are looked at
  npu_isa::instruction_t layer;
  logic layer_blocked;
  always_ff @(posedge clk) {layer, layer_blocked} <= {given, blocked};
  always_comb begin
    if (STALLS == 0) assume (step);
    // places that no sum of others comes to
    assume (given.out_base == 1000 && given.out_row == 61 && given.out_pixel == 7);
    assume (given.add_base == 5000 && given.add_row == 97 && given.add_pixel == 11);
    assume (given.out_height >= 1 && given.out_height <= 3);
    assume (given.out_width >= 1 && given.out_width <= 2);
    assume (given.out_granules >= 1 && given.out_granules <= 6);
    if (age) assume (layer == given && layer_blocked == blocked);
  end

  // the loops, innermost first
  logic [3:0] y, x, c, block;
  logic c_last, x_last, y_last, all, done;
  always_comb begin
    all    = c + 4'd1 == instruction.out_granules[3:0];
    c_last = all || (blocked && c + 4'd1 == block + 4'd4);
    x_last = x + 4'd1 == instruction.out_width[3:0];
    y_last = y + 4'd1 == instruction.out_height[3:0];
  end
  always_ff @(posedge clk) begin
    age <= 1'b1;
    if (!age) {y, x, c, block, done} <= '0;
    else if (step && !done) begin
      c <= c_last ? block : c + 4'd1;
      if (c_last) x <= x_last ? 4'd0 : x + 4'd1;
      if (c_last && x_last) y <= y_last ? 4'd0 : y + 4'd1;
      if (c_last && x_last && y_last) begin
        block <= block + 4'd4;
        c     <= block + 4'd4;
        done  <= all;
      end
    end
  end

  // y * row + x * pixel + c, of y < 3 and x < 2
  function automatic logic [15:0] place(logic [23:0] base, logic [15:0] row, logic [11:0] pixel);
    place = base[15:0] + (y[0] ? row : 16'd0) + (y[1] ? row << 1 : 16'd0)
          + (x[0] ? 16'(pixel) : 16'd0) + 16'(c);
  endfunction
  always_comb
    if (age && !done) begin
      assert (address == place(instruction.out_base, instruction.out_row, instruction.out_pixel));
      assert (second_address
              == place(instruction.add_base, instruction.add_row, instruction.add_pixel));
      assert (last == (all && x_last && y_last));
    end
endmodule
