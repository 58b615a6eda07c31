// Rounds an unsigned fixed-point number to a whole one as float32 and then an integer would.
//
// The value is magnitude * 2^-fraction. Its exact value is rounded to float32 (24 bits, half to
// even), then to an integer (half to even): where the fraction lies within half a float32 ulp of
// one half it is a tie, and the even neighbour wins. fraction = 0 passes the magnitude on.
//
// Latency: 2 cycles, one value a cycle. `whole` saturates at 511, `negative` comes along.
module rounder #(
    parameter int WIDTH = 48
) (
    input  logic             clk,
    input  logic [WIDTH-1:0] magnitude,
    input  logic             negative_in,
    input  logic [5:0]       fraction,
    output logic [8:0]       whole,
    output logic             negative
);
  // One bit per position: the leading one, the bits of the fraction, the bit worth one half.
  logic [WIDTH-1:0] leading, fraction_mask, half, shifted;
  logic [WIDTH-1:0] above;
  always_comb begin
    above = '0;
    for (int k = WIDTH - 2; k >= 0; k--) above[k] = above[k+1] | magnitude[k+1];
    leading = magnitude & ~above;
    for (int k = 0; k < WIDTH; k++) begin
      fraction_mask[k] = k < int'({26'b0, fraction});
      half[k] = k + 1 == int'({26'b0, fraction});
    end
    shifted = magnitude >> fraction;
  end

  // Stage 1: how far the fraction is from one half, and how far a tie reaches.
  logic signed [WIDTH:0] distance;
  logic [WIDTH-1:0] reach;
  logic [8:0] floor;
  logic saturated, exact, vanishing, negative_1;
  always_ff @(posedge clk) begin
    distance   <= $signed({1'b0, magnitude & fraction_mask}) - $signed({1'b0, half});
    reach      <= leading >> 24;
    floor      <= shifted[8:0];
    saturated  <= |shifted[WIDTH-1:9];
    exact      <= fraction == 0;
    vanishing  <= {26'b0, fraction} > WIDTH;
    negative_1 <= negative_in;
  end

  // Stage 2: the decision.
  logic [WIDTH-1:0] length;
  logic tie, up;
  logic [9:0] rounded;
  always_comb begin
    length  = distance[WIDTH] ? WIDTH'(-distance) : distance[WIDTH-1:0];
    tie     = length <= reach;
    up      = !exact && !vanishing && (tie ? floor[0] : !distance[WIDTH]);
    rounded = {1'b0, floor} + {9'b0, up};
  end
  always_ff @(posedge clk) begin
    whole    <= saturated || rounded[9] ? 9'd511 : rounded[8:0];
    negative <= negative_1;
  end
endmodule
