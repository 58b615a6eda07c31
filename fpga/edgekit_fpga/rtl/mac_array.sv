// O output lanes, each summing I int8 products a cycle into an int32 accumulator.
//
// Every output lane has its own I data bytes: CONV and PACK give all lanes the same, DWCONV each
// the taps of its channel. MUL uses lane 0 alone, with 9-bit factors; the other lanes' data are 0.
//
// Latency: 5 cycles from operands, which wait beside the multipliers first, to the sum; `valid_out` marks the sums of a beat with `last`.
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
  localparam int GROUPS = (I + 3) / 4;
  logic [3:0] valids, firsts, lasts;
  always_ff @(posedge clk) begin
    valids    <= reset ? '0 : {valids[2:0], valid};
    firsts    <= {firsts[2:0], first};
    lasts     <= {lasts[2:0], last};
    valid_out <= !reset && valids[3] && lasts[3];
  end

  genvar o, i, g;
  generate
    for (o = 0; o < O; o++) begin : g_lane
      logic [I*18-1:0] products;
      for (i = 0; i < I; i++) begin : g_product
        if (i == 0) begin : g_wide
          logic signed [8:0] a, b;
          logic signed [17:0] product;
          assign product = a * b;
          always_ff @(posedge clk) begin
            a              <= multiply ? factor_a[o] : {data[o][0][7], data[o][0]};
            b              <= multiply ? factor_b[o] : {weights[o][0][7], weights[o][0]};
            products[17:0] <= product;
          end
        end else begin : g_narrow
          logic signed [7:0] a, b;
          logic signed [15:0] product;
          assign product = a * b;
          always_ff @(posedge clk) begin
            a                   <= data[o][i];
            b                   <= weights[o][i];
            products[i*18+:18] <= {{2{product[15]}}, product};
          end
        end
      end
      logic [GROUPS*20-1:0] partial;
      for (g = 0; g < GROUPS; g++) begin : g_partial
        logic [19:0] total;
        always_comb begin
          total = '0;
          for (int k = 4 * g; k < 4 * g + 4 && k < I; k++)
            total = total + {{2{products[k*18+17]}}, products[k*18+:18]};
        end
        always_ff @(posedge clk) partial[g*20+:20] <= total;
      end
      logic [31:0] total, total_3;
      always_comb begin
        total = '0;
        for (int k = 0; k < GROUPS; k++) total = total + {{12{partial[k*20+19]}}, partial[k*20+:20]};
      end
      always_ff @(posedge clk) begin
        total_3 <= total;
        if (valids[3]) sums[o] <= firsts[3] ? total_3 : sums[o] + total_3;
      end
    end
  endgenerate
endmodule
