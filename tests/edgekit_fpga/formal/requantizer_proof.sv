// The whole requantizer against its specification (docs/npu-isa.md, requantize), for every
// accumulator, bias, entry, offset and bounds, in three parts that meet in its registers: up to the
// magnitude, the product, and from the product on. Registers hold anything at first, so each part
// has every value to start from.
module requantizer_proof (
    input logic               clk,
    input logic signed [31:0] accumulator,
    input logic signed [31:0] bias,
    input logic        [23:0] multiplier,
    input logic        [5:0]  shift,
    input logic signed [7:0]  zero_point,
    input logic signed [7:0]  low,
    input logic signed [7:0]  high
);
  logic signed [7:0] result;
  requantizer dut (
      .clk,
      .accumulator,
      .bias,
      .multiplier,
      .shift,
      .zero_point,
      .low,
      .high,
      .result
  );
  // registers of the requantizer (Yosys joins them by their names)
  (* hierconn *) wire [23:0] \dut.magnitude ;
  (* hierconn *) wire [23:0] \dut.multiplier_2 ;
  (* hierconn *) wire [5:0] \dut.shift_2 ;
  (* hierconn *) wire \dut.negative_2 ;
  (* hierconn *) wire [23:0] \dut.magnitude_3 ;
  (* hierconn *) wire [23:0] \dut.multiplier_3 ;
  (* hierconn *) wire [23:0] \dut.magnitude_4 ;
  (* hierconn *) wire [17:0] \dut.multiplier_4 ;
  (* hierconn *) wire [35:0] \dut.low_product ;
  (* hierconn *) wire [35:0] \dut.low_product_5 ;
  (* hierconn *) wire [23:0] \dut.middle_product ;
  (* hierconn *) wire [26:0] \dut.high_left ;
  (* hierconn *) wire [26:0] \dut.high_right ;
  (* hierconn *) wire [29:0] \dut.high_product ;
  (* hierconn *) wire [47:0] \dut.product ;
  (* hierconn *) wire [5:0] \dut.shift_6 ;
  (* hierconn *) wire \dut.negative_6 ;

  logic [2:0] age = 0;
  always_ff @(posedge clk) if (age != 3'd5) age <= age + 1'b1;

  // ---- sign and magnitude, 2 cycles later
  logic signed [31:0] v;
  logic [31:0] absolute;
  logic [1:0][54:0] front;
  always_comb begin
    v        = accumulator + bias;
    absolute = v < 0 ? -v : v;
  end
  always_ff @(posedge clk)
    front <= {front[0], absolute > 32'hffffff ? 24'hffffff : absolute[23:0], multiplier, shift, v < 0};
  always_comb
    if (age == 3'd2)
      assert (front[1] == { \dut.magnitude , \dut.multiplier_2 , \dut.shift_2 , \dut.negative_2 });

  // ---- the product: its factors wait, the first of three parts is made a cycle before the others and
  // waits for them, the last comes in two halves; a cycle later their sum, which is it:
  // m * n = m_low * n_low + (m_high * n_low + m * n_high) * 2^18
  logic [35:0] low_low, low_before;
  logic [23:0] high_low;
  logic [26:0] left, right;
  logic [29:0] all_high;
  logic [47:0] sum, factors;
  logic [41:0] factors_3;
  logic [53:0] halves;
  logic [3:0][6:0] beside;
  always_comb begin
    left  = '0;
    right = '0;
    for (int k = 0; k < 3; k++) begin
      left  = left + ( \dut.multiplier_3 [21+k] ? 27'( \dut.magnitude_3 ) << k : 27'b0);
      right = right + ( \dut.multiplier_3 [18+k] ? 27'( \dut.magnitude_3 ) << k : 27'b0);
    end
  end
  always_ff @(posedge clk) begin
    factors    <= { \dut.magnitude , \dut.multiplier_2 };
    factors_3  <= { \dut.magnitude_3 , \dut.multiplier_3 [17:0]};
    halves     <= {left, right};
    low_low    <= \dut.magnitude_3 [17:0] * 36'( \dut.multiplier_3 [17:0]);
    low_before <= \dut.low_product ;
    high_low   <= \dut.magnitude_4 [23:18] * 24'( \dut.multiplier_4 [17:0]);
    all_high   <= (30'( \dut.high_left ) << 3) + 30'( \dut.high_right );
    sum        <= 48'( \dut.low_product_5 ) + ((48'( \dut.middle_product ) + 48'( \dut.high_product )) << 18);
    beside     <= {beside[2:0], \dut.shift_2 , \dut.negative_2 };
  end
  always_comb begin
    if (age == 3'd1) begin
      assert (factors == { \dut.magnitude_3 , \dut.multiplier_3 });
      assert (factors_3 == { \dut.magnitude_4 , \dut.multiplier_4 });
      assert ( \dut.low_product == low_low);
      assert ( \dut.low_product_5 == low_before);
      assert ( \dut.middle_product == high_low);
      assert (halves == { \dut.high_left , \dut.high_right });
      assert ( \dut.high_product == all_high);
      assert ( \dut.product == sum);
    end
    if (age == 3'd4) assert (beside[3] == { \dut.shift_6 , \dut.negative_6 });
  end

  // ---- the result, 5 cycles later
  logic [63:0] rounded;
  logic signed [10:0] value, expected;
  logic [4:0][7:0] back;
  logic [23:0] operands;
  always_comb begin
    rounded  = rounding::rounded(64'( \dut.product ), \dut.shift_6 );
    value    = rounded > 64'd511 ? 11'sd511 : 11'(rounded[8:0]);
    value    = ( \dut.negative_6 ? -value : value) + zero_point;
    expected = value < low ? 11'(low) : value > high ? 11'(high) : value;
  end
  always_ff @(posedge clk) begin
    back     <= {back[3:0], expected[7:0]};
    operands <= {zero_point, low, high};
  end
  always_comb begin
    assume (low <= high);
    if (age != 0) assume (operands == {zero_point, low, high});
    if (age == 3'd5) assert (result == $signed(back[4]));
  end
endmodule
