// Gathers the 32-bit words of the incoming stream into words of the memory they are for.
//
// Before a run the host chooses memory and address; during one, LOAD instructions do, and only
// their words are taken. The address counts on by itself. Words to the memory: instructions 1,
// weights O * I / 4, requantization tiles 2 * O, table entries 2, activation granules O / 4 (at
// least 1).
//
// Handshake: in_valid/in_ready as in AXI4-Stream. The memory's bit of `write` is high for one cycle with
// the gathered word at the high end of `write_data`, whichever memory it is for, so that nothing stands
// between these registers and a memory. WIDTH is at least 64.
module loader #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int WIDTH = I > 8 ? I * O * 8 : O * 64
) (
    input  logic             clk,
    input  logic             reset,
    input  logic             running,
    // the host's choice
    input  logic             target_set,
    input  logic [2:0]       target,
    input  logic [31:0]      target_address,
    // LOAD
    input  logic             load,
    input  logic [23:0]      load_address,
    input  logic [23:0]      load_count,
    output logic             load_ready,
    output logic             loads_done,
    // stream
    input  logic             in_valid,
    output logic             in_ready,
    input  logic [31:0]      in_data,
    // memories
    output logic [4:0]       write,
    output logic [31:0]      write_address,
    output logic [WIDTH-1:0] write_data
);
  localparam logic [2:0] WEIGHTS = 3'd1, REQUANT = 3'd2, TABLES = 3'd3, ACTIVATIONS = 3'd4;

  logic [2:0] chosen;
  logic [31:0] address;
  logic [23:0] missing;
  logic [8:0] pieces, piece;
  logic take, whole, loading, resetting, shift;
  logic [31:0] word, word_address;
  logic [4:0] gathered;
  always_comb begin
    case (chosen)
      WEIGHTS: pieces = 9'(O * I / 4);
      REQUANT: pieces = 9'(2 * O);
      TABLES: pieces = 9'd2;
      ACTIVATIONS: pieces = O > 4 ? 9'(O / 4) : 9'd1;
      default: pieces = 9'd1;
    endcase
    loading    = missing != 0;
    in_ready   = !resetting && (running ? loading : !target_set);
    take       = in_valid && in_ready;
    whole      = take && piece + 1'b1 == pieces;
    load_ready = !loading;
    loads_done = !loading && gathered == 0 && write == 0;
  end
  always_ff @(posedge clk) begin
    // a word waits in a register before it is shifted in, so that a register enables the shift
    resetting     <= reset;
    shift         <= take;
    word          <= in_data;
    word_address  <= address;
    for (int t = 0; t < 5; t++) gathered[t] <= whole && chosen == 3'(t) && !reset;
    if (shift) write_data <= {word, write_data[WIDTH-1:32]};
    write         <= reset ? '0 : gathered;
    write_address <= word_address;
    if (take) piece <= whole ? '0 : piece + 1'b1;
    if (whole) address <= address + 1'b1;
    if (whole && loading) missing <= missing - 1'b1;
    if (target_set && !running) begin
      chosen  <= target;
      address <= target_address;
      piece   <= '0;
    end
    if (load) begin
      chosen  <= WEIGHTS;
      address <= {8'b0, load_address};
      missing <= load_count;
      piece   <= '0;
    end
    if (reset) begin
      missing <= '0;
      piece   <= '0;
    end
  end
endmodule
