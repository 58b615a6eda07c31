// O output lanes, each summing I int8 products a cycle into an int32 accumulator.
//
// Every output lane has its own I data bytes: CONV and PACK give all lanes the same, DWCONV each
// the taps of its channel. MUL uses lane 0 alone, with 9-bit factors; the other lanes' data are 0.
//
// Latency: 3 + $clog2(I) cycles from operands, which wait beside the multipliers first, to the sum;
// `valid_out` marks the sums of a beat with `last`.
module mac_array #(
    parameter int I = 16,
    parameter int O = 8
) (
    input  logic                      clk,
    input  logic                      reset,
    input  logic                      valid,
    input  logic                      first,
    input  logic                      last,
    input  logic                      multiply,
    input  logic [O-1:0][I-1:0][7:0]  data,
    input  logic [O-1:0][I-1:0][7:0]  weights,
    input  logic [O-1:0][8:0]         factor_a,
    input  logic [O-1:0][8:0]         factor_b,
    output logic                      valid_out,
    output logic [O-1:0][31:0]        sums
);
  localparam int LEVELS = $clog2(I);  // of the tree that adds the products, one a cycle
  localparam int WIDTH = 1 << LEVELS;
  // I products of 16 bits, one of which may have 18
  localparam int SUM_BITS = I < 4 ? 18 : 16 + LEVELS;
  localparam int BEFORE = 2 + LEVELS;  // cycles before a beat's sum joins the accumulator
  logic [BEFORE-1:0] valids, firsts, lasts;
  always_ff @(posedge clk) begin
    valids    <= reset ? '0 : {valids[BEFORE-2:0], valid};
    firsts    <= {firsts[BEFORE-2:0], first};
    lasts     <= {lasts[BEFORE-2:0], last};
    valid_out <= !reset && valids[BEFORE-1] && lasts[BEFORE-1];
  end

  genvar o, i, n;
  generate
    for (o = 0; o < O; o++) begin : g_lane
      // A heap: node n is the sum of nodes 2n and 2n + 1; the products are nodes from WIDTH on.
      logic [2*WIDTH*SUM_BITS-1:0] nodes;  // SUM_BITS each
      for (i = 0; i < WIDTH; i++) begin : g_product
        if (i == 0) begin : g_wide
          logic signed [8:0] a, b;
          logic signed [17:0] product;
          assign product = a * b;
          always_ff @(posedge clk) begin
            a <= multiply ? factor_a[o] : {data[o][0][7], data[o][0]};
            b <= multiply ? factor_b[o] : {weights[o][0][7], weights[o][0]};
            nodes[WIDTH*SUM_BITS+:SUM_BITS] <= SUM_BITS'(product);
          end
        end else if (i < I) begin : g_narrow
          logic signed [7:0] a, b;
          logic signed [15:0] product;
          assign product = a * b;
          always_ff @(posedge clk) begin
            a <= data[o][i];
            b <= weights[o][i];
            nodes[(WIDTH+i)*SUM_BITS+:SUM_BITS] <= SUM_BITS'(product);
          end
        end else begin : g_none
          assign nodes[(WIDTH+i)*SUM_BITS+:SUM_BITS] = '0;
        end
      end
      for (n = 1; n < WIDTH; n++) begin : g_sum
        always_ff @(posedge clk)
          nodes[n*SUM_BITS+:SUM_BITS] <= nodes[2*n*SUM_BITS+:SUM_BITS]
                                       + nodes[(2*n+1)*SUM_BITS+:SUM_BITS];
      end
      logic [31:0] total;
      assign total = {{32 - SUM_BITS{nodes[2*SUM_BITS-1]}}, nodes[SUM_BITS+:SUM_BITS]};
      always_ff @(posedge clk)
        if (valids[BEFORE-1]) sums[o] <= firsts[BEFORE-1] ? total : sums[o] + total;
    end
  endgenerate
endmodule
