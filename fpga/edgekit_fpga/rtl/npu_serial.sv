// The NPU behind an asynchronous serial line, for boards whose host has nothing wider: the
// registers and streams of npu_axi.sv, in the frames of serial_bridge.sv.
//
// A break on the line resets everything but the memories' contents: a host begins with one.
// `busy` is for a lamp.
module npu_serial #(
    parameter int CLOCKS_PER_BIT = 40,
    parameter int I = 16,
    parameter int O = 8,
    parameter int R = 8,
    parameter int B = 4,
    parameter int L = 1,
    parameter int P = 80,
    parameter int T = 16,
    parameter int GRANULES = 2048,
    parameter int WEIGHT_WORDS = 2560,
    parameter int REQUANT_TILES = 512,
    parameter int TABLE_ENTRIES = 1024,
    parameter int INSTRUCTIONS = 64
) (
    input  logic clk,
    input  logic reset,
    input  logic rx,
    output logic tx,
    output logic busy
);
  // ---- reset: from outside, or by a break, for 16 cycles
  logic broken, aresetn;
  logic [3:0] reset_left;
  always_ff @(posedge clk) begin
    if (reset || broken) reset_left <= '1;
    else if (reset_left != 0) reset_left <= reset_left - 1'b1;
    aresetn <= !reset && reset_left == 0;
  end

  // ---- the line
  logic in_valid, out_valid, out_ready;
  logic [7:0] in_byte, out_byte;
  uart_receiver #(
      .CLOCKS_PER_BIT(CLOCKS_PER_BIT)
  ) receiver (
      .clk,
      .reset,
      .rx,
      .valid(in_valid),
      .data(in_byte),
      .broken
  );
  uart_transmitter #(
      .CLOCKS_PER_BIT(CLOCKS_PER_BIT)
  ) transmitter (
      .clk,
      .reset(!aresetn),
      .valid(out_valid),
      .ready(out_ready),
      .data(out_byte),
      .tx
  );

  // ---- the frames
  logic awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready;
  logic [7:0] awaddr, araddr;
  logic [31:0] wdata, rdata, in_word, out_word;
  logic [1:0] bresp, rresp;
  logic in_word_valid, in_word_ready, out_word_valid, out_word_ready, unused_last;
  serial_bridge bridge (
      .clk,
      .reset(!aresetn),
      .in_valid,
      .in_data(in_byte),
      .out_valid,
      .out_ready,
      .out_data(out_byte),
      .m_axil_awaddr(awaddr),
      .m_axil_awvalid(awvalid),
      .m_axil_awready(awready),
      .m_axil_wdata(wdata),
      .m_axil_wvalid(wvalid),
      .m_axil_wready(wready),
      .m_axil_bresp(bresp),
      .m_axil_bvalid(bvalid),
      .m_axil_bready(bready),
      .m_axil_araddr(araddr),
      .m_axil_arvalid(arvalid),
      .m_axil_arready(arready),
      .m_axil_rdata(rdata),
      .m_axil_rresp(rresp),
      .m_axil_rvalid(rvalid),
      .m_axil_rready(rready),
      .m_axis_tdata(in_word),
      .m_axis_tvalid(in_word_valid),
      .m_axis_tready(in_word_ready),
      .s_axis_tdata(out_word),
      .s_axis_tvalid(out_word_valid),
      .s_axis_tready(out_word_ready)
  );

  npu_axi #(
      .I(I),
      .O(O),
      .R(R),
      .B(B),
      .L(L),
      .P(P),
      .T(T),
      .GRANULES(GRANULES),
      .WEIGHT_WORDS(WEIGHT_WORDS),
      .REQUANT_TILES(REQUANT_TILES),
      .TABLE_ENTRIES(TABLE_ENTRIES),
      .INSTRUCTIONS(INSTRUCTIONS)
  ) npu (
      .aclk(clk),
      .aresetn,
      .s_axil_awaddr(awaddr),
      .s_axil_awprot(3'b0),
      .s_axil_awvalid(awvalid),
      .s_axil_awready(awready),
      .s_axil_wdata(wdata),
      .s_axil_wstrb(4'hf),
      .s_axil_wvalid(wvalid),
      .s_axil_wready(wready),
      .s_axil_bresp(bresp),
      .s_axil_bvalid(bvalid),
      .s_axil_bready(bready),
      .s_axil_araddr(araddr),
      .s_axil_arprot(3'b0),
      .s_axil_arvalid(arvalid),
      .s_axil_arready(arready),
      .s_axil_rdata(rdata),
      .s_axil_rresp(rresp),
      .s_axil_rvalid(rvalid),
      .s_axil_rready(rready),
      .s_axis_tdata(in_word),
      .s_axis_tvalid(in_word_valid),
      .s_axis_tready(in_word_ready),
      .s_axis_tlast(1'b0),
      .m_axis_tdata(out_word),
      .m_axis_tvalid(out_word_valid),
      .m_axis_tready(out_word_ready),
      .m_axis_tlast(unused_last),
      .busy
  );
endmodule
