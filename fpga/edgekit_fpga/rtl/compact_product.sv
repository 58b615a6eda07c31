// One product in a register, of two's complement factors or (SIGNED = 0) natural numbers.
//
// The module is kept as it is: Yosys would else join a sum of two products into their multiplier
// blocks, and take a register into both.
//
// Latency: 1 cycle.
(* keep_hierarchy *)
module compact_product #(
    parameter int A = 8,
    parameter int B = 8,
    parameter bit SIGNED = 1
) (
    input  logic           clk,
    input  logic [  A-1:0] a,
    input  logic [  B-1:0] b,
    output logic [A+B-1:0] product
);
  generate
    if (SIGNED) begin : g_signed
      logic signed [A-1:0] signed_a;
      logic signed [B-1:0] signed_b;
      assign signed_a = a;
      assign signed_b = b;
      always_ff @(posedge clk) product <= signed_a * signed_b;
    end else begin : g_unsigned
      always_ff @(posedge clk) product <= a * b;
    end
  endgenerate
endmodule
