// The compact NPU behind a serial line with flow control: serial_commands.sv has what is said on it.
//
// Bytes that come in wait in a queue of 512; `rts_n` asks the host to pause while it is half full,
// which leaves room for what the host's own queue still sends.
module npu_compact_serial #(
    parameter int P = 1024,
    parameter int GRANULES = 65536,
    parameter int WEIGHT_WORDS = 16384,
    parameter int REQUANT_TILES = 1024,
    parameter int TABLE_ENTRIES = 512,
    parameter int INSTRUCTIONS = 16,
    parameter int CLOCKS_PER_BIT = 8
) (
    input  logic clk,
    input  logic reset,
    input  logic rx,
    output logic tx,
    output logic rts_n,
    output logic busy
);
  // ---- bytes
  logic received, broken, send, send_ready, byte_valid, pop, clear;
  logic [7:0] received_byte, send_byte, byte_out;
  uart_receiver #(
      .CLOCKS_PER_BIT(CLOCKS_PER_BIT)
  ) receiver (
      .clk,
      .reset,
      .rx,
      .valid(received),
      .data(received_byte),
      .broken
  );
  uart_transmitter #(
      .CLOCKS_PER_BIT(CLOCKS_PER_BIT)
  ) transmitter (
      .clk,
      .reset,
      .valid(send),
      .ready(send_ready),
      .data(send_byte),
      .tx
  );
  always_ff @(posedge clk) clear <= reset || broken;

  logic [8:0] head, tail, ahead;
  logic [9:0] waiting;
  logic shown;
  assign ahead      = pop ? head + 1'b1 : head;
  assign byte_valid = shown;
  assign rts_n      = waiting[9] || waiting[8];
  memory #(
      .WIDTH(8),
      .DEPTH(512)
  ) bytes (
      .clk,
      .write(received),
      .write_address(tail),
      .write_data(received_byte),
      .read_address(ahead),
      .read_data(byte_out)
  );
  always_ff @(posedge clk) begin
    // a byte can be read in the cycle after it was written, not in the same
    shown <= !clear && ahead != tail;
    head  <= clear ? '0 : ahead;
    if (clear) tail <= '0;
    else if (received) tail <= tail + 1'b1;
    if (clear) waiting <= '0;
    else if (received && !pop) waiting <= waiting + 1'b1;
    else if (pop && !received) waiting <= waiting - 1'b1;
  end

  // ---- commands
  logic core_reset, start, error, target_set, in_valid, in_ready, read, reading;
  logic out_valid, out_ready, out_last, layer_start;
  logic [31:0] cycles, address, in_data, out_data;
  logic [23:0] read_count;
  logic [15:0] layer;
  logic [2:0] target;
  serial_commands commands (
      .clk,
      .reset(clear),
      .byte_valid,
      .byte_in(byte_out),
      .pop,
      .send,
      .send_ready,
      .send_byte,
      .core_reset,
      .start,
      .busy,
      .error,
      .cycles,
      .target_set,
      .target,
      .address,
      .in_valid,
      .in_ready,
      .in_data,
      .read,
      .read_count,
      .reading,
      .out_valid,
      .out_ready,
      .out_data
  );
  npu_compact #(
      .P(P),
      .GRANULES(GRANULES),
      .WEIGHT_WORDS(WEIGHT_WORDS),
      .REQUANT_TILES(REQUANT_TILES),
      .TABLE_ENTRIES(TABLE_ENTRIES),
      .INSTRUCTIONS(INSTRUCTIONS)
  ) core (
      .clk,
      .reset(core_reset),
      .start,
      .busy,
      .error,
      .cycles,
      .layer,
      .layer_start,
      .target_set,
      .target,
      .target_address(address),
      .in_valid,
      .in_ready,
      .in_data,
      .read,
      .read_address(address),
      .read_count,
      .reading,
      .out_valid,
      .out_ready,
      .out_data,
      .out_last
  );
endmodule
