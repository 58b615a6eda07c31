// Puts the 32-bit words of the incoming stream where they belong: every memory of this core is
// written in pieces of one word, so nothing is gathered.
//
// Before a run the host chooses memory and address; during one, LOAD instructions do, and only
// their words are taken. The address counts on by itself, after two words where an entry has two
// (requantization, tables).
//
// Handshake: in_valid/in_ready as in AXI4-Stream. `write` is high in the cycle in which `in_data` is
// to be written.
module compact_loader #(
    parameter int ADDRESS_BITS = 16
) (
    input  logic                    clk,
    input  logic                    reset,
    input  logic                    running,
    // the host's choice
    input  logic                    target_set,
    input  logic [             2:0] target,
    input  logic [            31:0] target_address,
    // LOAD
    input  logic                    load,
    input  logic [            23:0] load_address,
    input  logic [            23:0] load_count,
    output logic                    load_ready,
    output logic                    loads_done,
    // stream
    input  logic                    in_valid,
    output logic                    in_ready,
    // memories
    output logic                    write,
    output logic [             2:0] write_target,
    output logic [ADDRESS_BITS-1:0] write_address,
    output logic                    write_half     // the second word of an entry
);
  localparam logic [2:0] WEIGHTS = 3'd1, REQUANT = 3'd2, TABLES = 3'd3;
  logic [ADDRESS_BITS:0] missing;
  logic loading, twofold;
  always_comb begin
    twofold    = write_target == REQUANT || write_target == TABLES;
    in_ready   = !reset && (running ? loading : !target_set);
    write      = in_valid && in_ready;
    load_ready = !loading;
    loads_done = !loading;
  end
  always_ff @(posedge clk) begin
    if (write) begin
      write_half <= twofold && !write_half;
      if (!twofold || write_half) write_address <= write_address + 1'b1;
      if (loading) missing <= missing - 1'b1;
      if (missing == 1) loading <= 1'b0;
    end
    if (target_set && !running) begin
      write_target  <= target;
      write_address <= ADDRESS_BITS'(target_address);
      write_half    <= 1'b0;
    end
    if (load) begin
      write_target  <= WEIGHTS;
      write_address <= ADDRESS_BITS'(load_address);
      write_half    <= 1'b0;
      missing       <= (ADDRESS_BITS + 1)'(load_count);
      loading       <= load_count != 0;
    end
    if (reset) loading <= 1'b0;
  end
endmodule
