// What follows the requantizer: table look-up of results that ask for it.
//
// Handshake: a result comes in any cycle, but never sooner than the feeding side's pause after the
// one before. Latency: 1 cycle, 2 with a table.
module compact_post #(
    parameter int TABLE_ENTRIES = 256,
    parameter int TABLE_BITS = $clog2(TABLE_ENTRIES)
) (
    input  logic                  clk,
    input  logic                  reset,
    input  npu_isa::instruction_t instruction,
    input  logic                  valid_in,
    input  logic [           7:0] data_in,
    output logic                  valid_out,
    output logic [           7:0] data_out,
    // loading the tables
    input  logic                  table_write,
    input  logic [TABLE_BITS-1:0] table_address,
    input  logic                  table_half,
    input  logic [          31:0] table_word
);
  logic [31:0] entry;
  logic looked_up;
  compact_store #(
      .WIDTH(32),
      .DEPTH(TABLE_ENTRIES)
  ) tables (
      .clk,
      .write(table_write && !table_half),
      .write_address(table_address),
      .write_data(table_word),
      .read_address(TABLE_BITS'(instruction.table_base) + TABLE_BITS'(data_in)),
      .read_data(entry)
  );
  always_ff @(posedge clk) begin
    looked_up <= valid_in && instruction.table_flag && !reset;
    valid_out <= !reset && (looked_up || (valid_in && !instruction.table_flag));
    data_out  <= looked_up ? entry[7:0] : data_in;
  end
endmodule
