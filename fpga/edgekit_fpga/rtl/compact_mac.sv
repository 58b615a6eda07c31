// Four int8 products a cycle into one int32 sum that begins with a bias; or the largest of int8
// values, one a cycle.
//
// CONV and PACK use all four lanes, DWCONV the first with one byte of each word, MUL the first with
// 9-bit factors. MAXPOOL and MAP take the largest of one byte a beat.
//
// Latency: the sum of a beat with `last_1` stands in `sum` 4 cycles later, with `sum_valid`; the
// largest in `largest` 2 cycles later, with `largest_valid`. `bias` is wanted 3 cycles after a beat
// with `first_1`; `last_3` says that the sum's multiplier is wanted then.
module compact_mac (
    input  logic                         clk,
    input  logic                         reset,
    input  npu_isa::instruction_t        instruction,
    input  logic                         valid_1,
    input  logic                         first_1,
    input  logic                         last_1,
    input  logic                  [ 1:0] lane_1,
    input  logic                  [ 1:0] weight_lane_1,
    input  logic                  [31:0] data,
    input  logic                  [31:0] weights,
    input  logic                  [ 7:0] factor,
    input  logic                  [31:0] bias,
    output logic                         first_3,
    output logic                         last_4,
    output logic                         sum_valid,
    output logic                  [31:0] sum,
    output logic                         largest_valid,
    output logic                  [ 7:0] largest
);
  logic is_mul, depthwise, greatest;
  always_ff @(posedge clk) begin
    is_mul    <= instruction.opcode == npu_isa::MUL;
    depthwise <= instruction.opcode == npu_isa::DWCONV;
    greatest  <= instruction.opcode == npu_isa::MAXPOOL || instruction.opcode == npu_isa::MAP;
  end

  // ---- cycle 1: operands
  logic [8:0] a_0, b_0;
  logic [3:1][7:0] a, b;
  logic [7:0] byte_a, byte_b;
  logic [3:1][15:0] products;
  logic [17:0] wide_product;
  always_comb begin
    byte_a = data[lane_1*8+:8];
    byte_b = depthwise ? weights[weight_lane_1*8+:8] : weights[7:0];
    a_0    = depthwise || is_mul ? {byte_a[7], byte_a} : {data[7], data[7:0]};
    b_0    = {byte_b[7], byte_b};
    if (is_mul) begin
      a_0 = a_0 - {instruction.in_zero_point[7], instruction.in_zero_point};
      b_0 = {factor[7], factor} - {instruction.add_zero_point[7], instruction.add_zero_point};
    end
  end
  always_comb
    for (int k = 1; k < 4; k++) begin
      a[k] = depthwise || is_mul ? 8'd0 : data[k*8+:8];
      b[k] = weights[k*8+:8];
    end

  // ---- cycle 2: products. Cycle 3: their sum. Cycle 4: what has been summed so far.
  compact_product #(
      .A(9),
      .B(9)
  ) wide (
      .clk,
      .a(a_0),
      .b(b_0),
      .product(wide_product)
  );
  genvar i;
  generate
    for (i = 1; i < 4; i++) begin : g_lane
      compact_product narrow (
          .clk,
          .a(a[i]),
          .b(b[i]),
          .product(products[i])
      );
    end
  endgenerate
  logic [17:0] dot;
  logic valid_2, valid_3, valid_4, first_2, first_4, last_2, last_3;
  always_ff @(posedge clk) begin
    dot <= (wide_product + {{2{products[1][15]}}, products[1]})
         + ({{2{products[2][15]}}, products[2]} + {{2{products[3][15]}}, products[3]});
    if (valid_4) sum <= (first_4 ? bias : sum) + {{14{dot[17]}}, dot};
    valid_2   <= valid_1 && !greatest && !reset;
    valid_3   <= valid_2 && !reset;
    valid_4   <= valid_3 && !reset;
    first_2   <= first_1;
    first_3   <= first_2 && valid_2;
    first_4   <= first_3;
    last_2    <= last_1;
    last_3    <= last_2;
    last_4    <= last_3 && valid_3 && !reset;
    sum_valid <= last_4 && !reset;
  end

  // ---- the largest
  logic [7:0] candidate;
  logic compare_2, begin_2, end_2;
  always_ff @(posedge clk) begin
    candidate     <= byte_a;
    compare_2     <= valid_1 && greatest && !reset;
    begin_2       <= first_1;
    end_2         <= last_1;
    largest_valid <= compare_2 && end_2 && !reset;
    if (compare_2 && (begin_2 || $signed(candidate) > $signed(largest))) largest <= candidate;
  end
endmodule
