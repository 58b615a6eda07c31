// Puts a rounded magnitude's sign back, adds an int8 offset and clamps to int8 bounds.
//
// Latency: 2 cycles, one value a cycle.
module clamp (
    input  logic              clk,
    input  logic        [8:0] whole,
    input  logic              negative,
    input  logic signed [7:0] offset,
    input  logic signed [7:0] low,
    input  logic signed [7:0] high,
    output logic signed [7:0] result
);
  logic signed [10:0] value;
  always_ff @(posedge clk) begin
    value <= (negative ? -$signed({2'b0, whole}) : $signed({2'b0, whole})) + 11'(offset);
    if (value < 11'(low)) result <= low;
    else if (value > 11'(high)) result <= high;
    else result <= value[7:0];
  end
endmodule
