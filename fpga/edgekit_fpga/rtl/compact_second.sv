// The second operand of MUL and of adds, one byte ahead of its use, in the order of compact_walker.
//
// Handshake: `request` and its address stand until `grant`, `read_data` is that byte a cycle later;
// `valid` and `data` stand until `used`.
module compact_second #(
    parameter int ADDRESS_BITS = 16
) (
    input  logic                    clk,
    input  logic                    reset,
    input  logic                    start,
    input  npu_isa::instruction_t   instruction,
    input  logic                    blocked,
    output logic                    request,
    output logic [ADDRESS_BITS-1:0] address,
    input  logic                    grant,
    input  logic [             7:0] read_data,
    output logic                    valid,
    output logic [             7:0] data,
    input  logic                    used
);
  logic wanted, coming, last, ended;
  assign wanted = instruction.add_flag || instruction.opcode == npu_isa::MUL;
  compact_walker #(
      .ADDRESS_BITS(ADDRESS_BITS)
  ) walker (
      .clk,
      .start,
      .step(grant),
      .blocked,
      .base(instruction.add_base),
      .row(instruction.add_row),
      .pixel(instruction.add_pixel),
      .height(instruction.out_height),
      .width(instruction.out_width),
      .channels(instruction.out_granules),
      .address,
      .last
  );
  assign request = wanted && !ended && !coming && !valid;
  always_ff @(posedge clk) begin
    coming <= grant && !reset && !start;
    if (coming) data <= read_data;
    valid <= !reset && !start && (coming || (valid && !used));
    if (start || reset) ended <= reset;
    else if (grant && last) ended <= 1'b1;
  end
endmodule
