// Rounds an unsigned fixed-point number to a whole one as float32 and then an integer would.
//
// The value is magnitude * 2^-fraction. Its exact value is rounded to float32 (24 bits, half to
// even), then to an integer (half to even): where the fraction lies within half a float32 ulp of
// one half it is a tie, and the even neighbour wins. fraction = 0 passes the magnitude on.
//
// With n the magnitude's bit length, half an ulp is the bit at place n - 25. A fraction of one
// half or more is a tie if everything from that place up to the half's is zero, or if that bit is
// the only one set; a smaller one if everything from that place on is ones. So masks decide, and no
// subtraction. Magnitudes so large that these places are not those of a fraction saturate.
//
// Latency: 3 cycles, one value a cycle. `whole` saturates at 511, `negative` comes along.
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
  // Stage 1: one bit a place: is it below the half's? and is it below, or at, that of half an ulp?
  logic [WIDTH-1:0] value, below_half, below_ulp, at_ulp;
  logic [5:0] fraction_1;
  logic negative_1;
  logic [WIDTH:0] at_or_above;
  always_comb begin
    at_or_above = '0;
    for (int k = WIDTH - 1; k >= 24; k--) at_or_above[k] = at_or_above[k+1] | magnitude[k];
  end
  always_ff @(posedge clk) begin
    for (int k = 0; k < WIDTH; k++) begin
      below_half[k] <= k + 1 < int'({26'b0, fraction});
      below_ulp[k]  <= k + 25 < WIDTH && at_or_above[k+25<WIDTH?k+25 : WIDTH];
      at_ulp[k]     <= k + 24 < WIDTH && at_or_above[k+24<WIDTH?k+24 : WIDTH]
                    && !at_or_above[k+25<WIDTH?k+25 : WIDTH];
    end
    value      <= magnitude;
    fraction_1 <= fraction;
    negative_1 <= negative_in;
  end

  // Stage 2: the whole part, the bit worth one half, and what the places below it say.
  logic [8:0] floor;
  logic half, zeros, only_ulp, ones, saturated, exact, negative_2;
  logic [WIDTH:0] shifted;
  assign shifted = {value, 1'b0} >> fraction_1;
  always_ff @(posedge clk) begin
    {floor, half} <= shifted[9:0];
    saturated     <= |shifted[WIDTH:10];
    zeros         <= ~|(value & below_half & ~below_ulp);
    only_ulp      <= ~|((value ^ at_ulp) & below_half);
    ones          <= &(value | ~below_half | below_ulp) && (|at_ulp);
    exact         <= fraction_1 == 0;
    negative_2    <= negative_1;
  end

  // Stage 3: the decision.
  logic tie, up;
  logic [9:0] rounded;
  always_comb begin
    tie     = half ? zeros || only_ulp : ones;
    up      = !exact && (tie ? floor[0] : half);
    rounded = {1'b0, floor} + {9'b0, up};
  end
  always_ff @(posedge clk) begin
    whole    <= saturated || rounded[9] ? 9'd511 : rounded[8:0];
    negative <= negative_2;
  end
endmodule
