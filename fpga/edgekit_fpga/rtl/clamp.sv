// Puts a rounded magnitude's sign back, adds an int8 offset and clamps to int8 bounds.
//
// Latency: CYCLES, 1 or 2; one value a cycle.
module clamp #(
    parameter int CYCLES = 2
) (
    input  logic              clk,
    input  logic        [8:0] whole,
    input  logic              negative,
    input  logic signed [7:0] offset,
    input  logic signed [7:0] low,
    input  logic signed [7:0] high,
    output logic signed [7:0] result
);
  logic signed [10:0] sum, value;
  assign sum = (negative ? -$signed({2'b0, whole}) : $signed({2'b0, whole})) + 11'(offset);
  generate
    if (CYCLES == 1) begin : g_at_once
      assign value = sum;
    end else begin : g_registered
      always_ff @(posedge clk) value <= sum;
    end
  endgenerate
  always_ff @(posedge clk) begin
    if (value < 11'(low)) result <= low;
    else if (value > 11'(high)) result <= high;
    else result <= value[7:0];
  end
endmodule
