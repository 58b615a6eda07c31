// The rounder against its specification (docs/npu-isa.md, round), which subtracts and compares.
module rounder_proof #(
    parameter int WIDTH = 48
) (
    input logic             clk,
    input logic [WIDTH-1:0] magnitude,
    input logic             negative_in,
    input logic [5:0]       fraction
);
  logic [8:0] whole;
  logic negative;
  rounder #(
      .WIDTH(WIDTH)
  ) dut (
      .clk,
      .magnitude,
      .negative_in,
      .fraction,
      .whole,
      .negative
  );

  // half a float32 ulp of the magnitude: 2^(n - 25) for a number of n >= 25 bits
  logic [63:0] value, below, half, quotient, distance, reach, rounded;
  logic tie;
  always_comb begin
    value = 64'(magnitude);
    reach = '0;
    for (int k = 24; k < WIDTH; k++) if (magnitude[k]) reach = 64'd1 << (k - 24);
    below    = value & ((64'd1 << fraction) - 64'd1);
    half     = (64'd1 << fraction) >> 1;
    quotient = value >> fraction;
    distance = below > half ? below - half : half - below;
    tie      = distance <= reach;
    rounded  = fraction == 0 ? value
             : tie ? quotient + (quotient & 64'd1)
             : below > half ? quotient + 64'd1 : quotient;
  end

  logic [2:0][8:0] expected;
  logic [2:0] expected_negative;
  logic [1:0] age = 0;
  always_ff @(posedge clk) begin
    expected          <= {expected[1:0], rounded > 64'd511 ? 9'd511 : rounded[8:0]};
    expected_negative <= {expected_negative[1:0], negative_in};
    if (age != 2'd3) age <= age + 1'b1;
  end
  always_comb
    if (age == 2'd3) begin
      assert (whole == expected[2]);
      assert (negative == expected_negative[2]);
    end
endmodule
