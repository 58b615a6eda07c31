// The rounder against its specification, for every magnitude and fraction.
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

  logic [63:0] rounded;
  assign rounded = rounding::rounded(64'(magnitude), fraction);
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
