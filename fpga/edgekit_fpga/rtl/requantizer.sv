// Takes an int32 accumulator to int8: clamp(round((accumulator + bias) * multiplier * 2^-shift)
// + zero_point, low, high), bit for bit what ONNX Runtime's float32 arithmetic gives.
//
// |accumulator + bias| saturates at 2^24 - 1, which the compiler proves harmless. The 24 x 24 bit
// product is cut so that two 18 x 18 bit multipliers do it: the multiplier's top 6 bits go through
// plain logic.
//
// Latency: 11 cycles, one accumulator a cycle. The operands that stages 10 and 11 need (zero_point, low,
// high) are the instruction's and do not change while accumulators are under way.
module requantizer (
    input  logic               clk,
    input  logic signed [31:0] accumulator,
    input  logic signed [31:0] bias,
    input  logic        [23:0] multiplier,
    input  logic        [5:0]  shift,
    input  logic signed [7:0]  zero_point,
    input  logic signed [7:0]  low,
    input  logic signed [7:0]  high,
    output logic signed [7:0]  result
);
  // Stage 1: bias. Stage 2: sign and magnitude.
  logic signed [31:0] biased;
  logic [31:0] absolute;
  logic [23:0] magnitude, multiplier_1, multiplier_2;
  logic [5:0] shift_1, shift_2;
  logic negative_2;
  assign absolute = biased[31] ? 32'(-biased) : 32'(biased);
  always_ff @(posedge clk) begin
    biased       <= accumulator + bias;
    multiplier_1 <= multiplier;
    shift_1      <= shift;
    magnitude    <= |absolute[31:24] ? 24'hffffff : absolute[23:0];
    negative_2   <= biased[31];
    multiplier_2 <= multiplier_1;
    shift_2      <= shift_1;
  end

  // Stages 3 and 4: the factors once more for each multiplier, where it is. Stages 4 and 5: partial
  // products, that of the highest bits in two halves. Stage 6: the product.
  logic [23:0] magnitude_3, multiplier_3;
  logic [17:0] multiplier_4;
  logic [23:0] magnitude_4;
  logic [5:0] shift_3, shift_4, shift_5, shift_6;
  logic negative_3, negative_4, negative_5, negative_6;
  logic [35:0] low_product, low_product_5;
  logic [23:0] middle_product;
  logic [26:0] high_left, high_right;
  logic [29:0] high_product;
  logic [47:0] product;
  // A magnitude by three bits.
  function automatic logic [26:0] times(logic [23:0] factor, logic [2:0] bits);
    times = '0;
    for (int k = 0; k < 3; k++) times = times + (bits[k] ? {3'b0, factor} << k : 27'b0);
  endfunction
  always_ff @(posedge clk) begin
    magnitude_3    <= magnitude;
    multiplier_3   <= multiplier_2;
    shift_3        <= shift_2;
    negative_3     <= negative_2;
    low_product    <= {18'b0, magnitude_3[17:0]} * {18'b0, multiplier_3[17:0]};
    magnitude_4    <= magnitude_3;
    multiplier_4   <= multiplier_3[17:0];
    high_left      <= times(magnitude_3, multiplier_3[23:21]);
    high_right     <= times(magnitude_3, multiplier_3[20:18]);
    shift_4        <= shift_3;
    negative_4     <= negative_3;
    low_product_5  <= low_product;
    middle_product <= {18'b0, magnitude_4[23:18]} * {6'b0, multiplier_4};
    high_product   <= {high_left, 3'b0} + {3'b0, high_right};
    shift_5        <= shift_4;
    negative_5     <= negative_4;
    product <= {12'b0, low_product_5} + {6'b0, middle_product, 18'b0} + {high_product, 18'b0};
    shift_6        <= shift_5;
    negative_6     <= negative_5;
  end

  // Stages 7 to 9: round. Stages 10 and 11: zero point and clamp, which come from afar.
  logic [8:0] whole;
  logic negative;
  logic signed [7:0] offset, least, most;
  always_ff @(posedge clk) begin
    offset <= zero_point;
    least  <= low;
    most   <= high;
  end
  rounder #(
      .WIDTH(48)
  ) round (
      .clk,
      .magnitude(product),
      .negative_in(negative_6),
      .fraction(shift_6),
      .whole,
      .negative
  );
  clamp finish (
      .clk,
      .whole,
      .negative,
      .offset,
      .low(least),
      .high(most),
      .result
  );
endmodule
