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
  // Stage 1: of each place, is it below the half's, and is it from half an ulp's place on below the
  // half's? `other` is the magnitude with the bit at half an ulp's place turned over, `shifted` the
  // magnitude and the place below it, shifted by the fraction's sixteens.
  logic [WIDTH-1:0] value, other, below_half, between;
  logic [5:0] fraction_1;
  logic [24:0] shifted;
  logic [7:0] past, here, low;
  logic negative_1, has_ulp;
  logic [WIDTH+25:0] at_or_above;
  always_comb begin
    at_or_above = '0;
    for (int k = WIDTH - 1; k >= 24; k--) at_or_above[k] = at_or_above[k+1] | magnitude[k];
    for (int k = 0; k < 8; k++) begin
      past[k] = fraction[5:3] > 3'(k);
      here[k] = fraction[5:3] == 3'(k);
      low[k]  = fraction[2:0] > 3'(k);
    end
  end
  always_ff @(posedge clk) begin
    for (int k = 0; k < WIDTH; k++) begin
      below_half[k] <= past[(k+1)/8] || (here[(k+1)/8] && low[(k+1)%8]);
      between[k]    <= (past[(k+1)/8] || (here[(k+1)/8] && low[(k+1)%8])) && !at_or_above[k+25];
      other[k]      <= magnitude[k] ^ (at_or_above[k+24] && !at_or_above[k+25]);
    end
    value      <= magnitude;
    shifted    <= 25'({magnitude, 1'b0} >> {fraction[5:4], 4'b0});
    has_ulp    <= at_or_above[24];
    fraction_1 <= fraction;
    negative_1 <= negative_in;
  end

  // Stage 2: the whole part, the bit worth one half, and what the places below it say.
  logic [8:0] floor;
  logic half, zeros, only_ulp, ones, saturated, exact, negative_2;
  always_ff @(posedge clk) begin
    {floor, half} <= 10'(shifted >> fraction_1[3:0]);
    // a bit that is 9 places or more above the half's
    saturated     <= |(value[WIDTH-1:10] & ~below_half[WIDTH-11:0]) || (value[9] && fraction_1 == 0);
    zeros         <= ~|(value & between);
    only_ulp      <= ~|(other & below_half);
    ones          <= &(value | ~between) && has_ulp;
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
