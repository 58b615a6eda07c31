// Turns frames of bytes into register accesses and stream words, and answers each frame.
//
//   request   operation, operand, payload, CRC     reply   status, payload, CRC
//   'W'       register address; 4 bytes            nothing
//   'R'       register address                     4 bytes
//   'S'       words - 1; 4 bytes a word, for the   nothing
//             stream in
//   'D'       words - 1                            4 bytes a word, from the stream out
//
// Numbers have their low byte first. The CRC (CCITT, polynomial 0x1021, from 0xffff, high byte
// first) covers everything before it. Status: 0 done, 1 refused by the register, 2 the request was
// damaged, 3 no such operation, 4 the stream in was full and words are lost. Only a reply of status
// 0 has a payload. A damaged 'S' may have passed words on; nothing else damaged does anything.
//
// Handshake: the host sends a request when it has the reply to the one before. An 'S' is answered
// when its words have all been taken, so while the NPU runs and takes words at LOADs alone, a frame
// may have DEPTH words.
module serial_bridge #(
    parameter int DEPTH = 16
) (
    input  logic        clk,
    input  logic        reset,
    // bytes
    input  logic        in_valid,
    input  logic [ 7:0] in_data,
    output logic        out_valid,
    input  logic        out_ready,
    output logic [ 7:0] out_data,
    // AXI4-Lite
    output logic [ 7:0] m_axil_awaddr,
    output logic        m_axil_awvalid,
    input  logic        m_axil_awready,
    output logic [31:0] m_axil_wdata,
    output logic        m_axil_wvalid,
    input  logic        m_axil_wready,
    input  logic [ 1:0] m_axil_bresp,
    input  logic        m_axil_bvalid,
    output logic        m_axil_bready,
    output logic [ 7:0] m_axil_araddr,
    output logic        m_axil_arvalid,
    input  logic        m_axil_arready,
    input  logic [31:0] m_axil_rdata,
    input  logic [ 1:0] m_axil_rresp,
    input  logic        m_axil_rvalid,
    output logic        m_axil_rready,
    // AXI4-Stream, to the NPU and from it
    output logic [31:0] m_axis_tdata,
    output logic        m_axis_tvalid,
    input  logic        m_axis_tready,
    input  logic [31:0] s_axis_tdata,
    input  logic        s_axis_tvalid,
    output logic        s_axis_tready
);
  localparam logic [7:0] WRITE = "W", READ = "R", SEND = "S", DRAIN = "D";
  localparam logic [7:0] DONE = 8'd0, REFUSED = 8'd1, DAMAGED = 8'd2, UNKNOWN = 8'd3, LOST = 8'd4;
  typedef enum logic [3:0] {
    OPERATION, OPERAND, PAYLOAD, CHECK, ACT, AWAIT, STATUS, FETCH, TAKE, DATA, CRC_HIGH,
    CRC_LOW
  } state_t;

  function automatic logic [15:0] crc_after(logic [15:0] crc, logic [7:0] data);
    crc_after = crc ^ {data, 8'b0};
    for (int k = 0; k < 8; k++)
      crc_after = {crc_after[14:0], 1'b0} ^ (crc_after[15] ? 16'h1021 : 16'h0000);
  endfunction

  state_t state;
  logic [7:0] operation, operand, status;
  logic [10:0] left;             // bytes of the frame's present part
  logic [31:0] word, arrived;    // a word of the stream out, from afar, arrives before it is taken
  logic [15:0] crc;
  logic push, lost, sent, waiting_valid;

  // ---- the stream in, which the NPU may let wait
  logic taken, room;
  assign taken         = waiting_valid && m_axis_tready;
  assign m_axis_tvalid = waiting_valid;
  fifo #(
      .WIDTH(32),
      .DEPTH(DEPTH)
  ) words (
      .clk,
      .reset,
      .push(push && room),
      .push_data(word),
      .pop(taken),
      .valid(waiting_valid),
      .room,
      .data(m_axis_tdata)
  );

  // ---- registers
  assign m_axil_awaddr = operand;
  assign m_axil_araddr = operand;
  assign m_axil_wdata  = word;
  assign m_axil_bready = 1'b1;
  assign m_axil_rready = 1'b1;

  // ---- replies
  assign sent          = out_valid && out_ready;
  assign out_valid     = state == STATUS || state == DATA || state == CRC_HIGH || state == CRC_LOW;
  assign s_axis_tready = state == FETCH;
  always_comb
    case (state)
      STATUS: out_data = status;
      DATA: out_data = word[7:0];
      CRC_HIGH: out_data = crc[15:8];
      default: out_data = crc[7:0];
    endcase

  always_ff @(posedge clk) begin
    push    <= 1'b0;
    arrived <= s_axis_tdata;
    if (push && !room) lost <= 1'b1;
    if (m_axil_awready) m_axil_awvalid <= 1'b0;
    if (m_axil_wready) m_axil_wvalid <= 1'b0;
    if (m_axil_arready) m_axil_arvalid <= 1'b0;
    case (state)
      OPERATION:
      if (in_valid) begin
        operation <= in_data;
        crc       <= crc_after(16'hffff, in_data);
        lost      <= 1'b0;
        state     <= OPERAND;
      end
      OPERAND:
      if (in_valid) begin
        operand <= in_data;
        crc     <= crc_after(crc, in_data);
        left    <= operation == WRITE ? 11'd4
                 : operation == SEND ? {1'b0, in_data, 2'b0} + 11'd4 : 11'd2;
        state   <= operation == WRITE || operation == SEND ? PAYLOAD : CHECK;
      end
      PAYLOAD:
      if (in_valid) begin
        word <= {in_data, word[31:8]};
        crc  <= crc_after(crc, in_data);
        push <= operation == SEND && left[1:0] == 2'd1;
        left <= left == 11'd1 ? 11'd2 : left - 1'b1;
        if (left == 11'd1) state <= CHECK;
      end
      CHECK:
      if (in_valid) begin
        crc  <= crc_after(crc, in_data);
        left <= left - 1'b1;
        if (left == 11'd1) state <= ACT;
      end
      ACT: begin
        status <= crc != 0 ? DAMAGED
                : operation == WRITE || operation == READ || operation == SEND
               || operation == DRAIN ? DONE : UNKNOWN;
        state  <= crc == 0 && operation != DRAIN ? AWAIT : STATUS;
        if (crc == 0 && operation == WRITE) {m_axil_awvalid, m_axil_wvalid} <= 2'b11;
        if (crc == 0 && operation == READ) m_axil_arvalid <= 1'b1;
        left <= operation == READ ? 11'd4 : {1'b0, operand, 2'b0} + 11'd4;
        crc  <= 16'hffff;
      end
      AWAIT:
      case (operation)
        WRITE:
        if (m_axil_bvalid) begin
          if (m_axil_bresp[1]) status <= REFUSED;
          state <= STATUS;
        end
        READ:
        if (m_axil_rvalid) begin
          if (m_axil_rresp[1]) status <= REFUSED;
          word  <= m_axil_rdata;
          state <= STATUS;
        end
        SEND:
        if (!waiting_valid) begin
          if (lost) status <= LOST;
          state <= STATUS;
        end
        default: state <= STATUS;
      endcase
      STATUS:
      if (sent) begin
        crc   <= crc_after(crc, status);
        state <= status != DONE ? CRC_HIGH
               : operation == READ ? DATA : operation == DRAIN ? FETCH : CRC_HIGH;
      end
      FETCH: if (s_axis_tvalid) state <= TAKE;
      TAKE: begin
        word  <= arrived;
        state <= DATA;
      end
      DATA:
      if (sent) begin
        word <= word >> 8;
        crc  <= crc_after(crc, word[7:0]);
        left <= left - 1'b1;
        if (left == 11'd1) state <= CRC_HIGH;
        else if (left[1:0] == 2'd1) state <= FETCH;
      end
      CRC_HIGH: if (sent) state <= CRC_LOW;
      default: if (sent) state <= OPERATION;
    endcase
    if (reset) begin
      state          <= OPERATION;
      m_axil_awvalid <= 1'b0;
      m_axil_wvalid  <= 1'b0;
      m_axil_arvalid <= 1'b0;
    end
  end
endmodule
