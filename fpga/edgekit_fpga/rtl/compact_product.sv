// One product of factors in registers, of two's complement factors or (SIGNED = 0) natural numbers.
//
// The module is kept as it is: Yosys would else join a sum of two products into their multiplier
// blocks, and take a register into both.
//
// Latency: 2 cycles; with FACTORS = 0 the factors have no registers of their own here, and 1.
(* keep_hierarchy *)
module compact_product #(
    parameter int A = 8,
    parameter int B = 8,
    parameter bit SIGNED = 1,
    parameter bit FACTORS = 1
) (
    input  logic           clk,
    input  logic [  A-1:0] a,
    input  logic [  B-1:0] b,
    output logic [A+B-1:0] product
);
  logic [A-1:0] factor_a;
  logic [B-1:0] factor_b;
  generate
    if (FACTORS) begin : g_factors
      always_ff @(posedge clk) begin
        factor_a <= a;
        factor_b <= b;
      end
    end else begin : g_no_factors
      assign factor_a = a;
      assign factor_b = b;
    end
    if (SIGNED) begin : g_signed
      logic signed [A-1:0] signed_a;
      logic signed [B-1:0] signed_b;
      assign signed_a = factor_a;
      assign signed_b = factor_b;
      always_ff @(posedge clk) product <= signed_a * signed_b;
    end else begin : g_unsigned
      always_ff @(posedge clk) product <= factor_a * factor_b;
    end
  endgenerate
endmodule
