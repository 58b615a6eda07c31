// The NPU behind AXI4-Lite for control and AXI4-Stream for data, as any vendor's tools connect it.
//
// | Address | Register     |                                                                        |
// |---------|--------------|------------------------------------------------------------------------|
// | 0x00    | ID           | 0x4e505531 ("NPU1")                                                    |
// | 0x04    | VERSION      | of the instruction set                                                 |
// | 0x08    | ARRAY        | I in bits 0-7, O in 8-15, R in 16-23, L in 24-31                       |
// | 0x0c    | SHAPE        | B in bits 0-7, T in 8-15, P in 16-31                                   |
// | 0x10    | GRANULES     | of an activation bank                                                  |
// | 0x14    | WEIGHT_WORDS | of weight memory                                                       |
// | 0x18    | REQUANT_TILES| of requantization memory                                               |
// | 0x1c    | TABLE_ENTRIES| of table memory                                                        |
// | 0x20    | INSTRUCTIONS | of instruction memory                                                  |
// | 0x24    | CONTROL      | write bit 0: start the program                                         |
// | 0x28    | STATUS       | bit 0 busy, bit 1 error, bit 2 reading, bits 16-31 the newest layer    |
// | 0x2c    | CYCLES       | from start to done, or so far                                          |
// | 0x30    | TARGET       | the memory that the stream in is for: npu.sv numbers them              |
// | 0x34    | TARGET_ADDRESS | write: the stream's next word goes to this word of that memory       |
// | 0x38    | READ_ADDRESS | bank in bits 24-31, granule in 0-23                                    |
// | 0x3c    | READ_COUNT   | write: stream so many granules out; `tlast` marks the last word        |
//
// Accesses to other addresses, and writes to registers that only tell, answer SLVERR; writes take
// whole words, `wstrb` must be all ones. While the NPU is busy the stream in belongs to its LOADs,
// and writes to CONTROL, TARGET_ADDRESS and READ_COUNT answer SLVERR and do nothing. `busy` is for
// an interrupt or a lamp.
module npu_axi #(
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
    input  logic        aclk,
    input  logic        aresetn,
    // AXI4-Lite
    input  logic [ 7:0] s_axil_awaddr,
    input  logic [ 2:0] s_axil_awprot,
    input  logic        s_axil_awvalid,
    output logic        s_axil_awready,
    input  logic [31:0] s_axil_wdata,
    input  logic [ 3:0] s_axil_wstrb,
    input  logic        s_axil_wvalid,
    output logic        s_axil_wready,
    output logic [ 1:0] s_axil_bresp,
    output logic        s_axil_bvalid,
    input  logic        s_axil_bready,
    input  logic [ 7:0] s_axil_araddr,
    input  logic [ 2:0] s_axil_arprot,
    input  logic        s_axil_arvalid,
    output logic        s_axil_arready,
    output logic [31:0] s_axil_rdata,
    output logic [ 1:0] s_axil_rresp,
    output logic        s_axil_rvalid,
    input  logic        s_axil_rready,
    // AXI4-Stream in and out
    input  logic [31:0] s_axis_tdata,
    input  logic        s_axis_tvalid,
    output logic        s_axis_tready,
    input  logic        s_axis_tlast,
    output logic [31:0] m_axis_tdata,
    output logic        m_axis_tvalid,
    input  logic        m_axis_tready,
    output logic        m_axis_tlast,
    output logic        busy
);
  localparam logic [31:0] ID = 32'h4e505531;
  localparam logic [31:0] VERSION = 32'd2;
  localparam logic [1:0] OKAY = 2'b00, SLVERR = 2'b10;
  localparam logic [5:0] CONTROL = 6'h09, STATUS = 6'h0a, CYCLES = 6'h0b, TARGET = 6'h0c,
      TARGET_ADDRESS = 6'h0d, READ_ADDRESS = 6'h0e, READ_COUNT = 6'h0f;

  logic reset, start, error, reading, target_set, read, layer_start;
  logic [31:0] cycles, target_address, read_address;
  logic [23:0] read_count;
  logic [15:0] layer;
  logic [2:0] target;
  always_ff @(posedge aclk) reset <= !aresetn;

  // ---- writes: address and data are held until both are here, then answered
  logic address_held, data_held;
  logic [5:0] write_register;
  logic [31:0] write_data;
  logic whole_word, commit, occupied, refused;
  assign s_axil_awready = !address_held && !reset;
  assign s_axil_wready  = !data_held && !reset;
  assign commit   = address_held && data_held && !s_axil_bvalid;
  // a start just given shows in `busy` a cycle later
  assign occupied = busy || start || reading || read;
  always_comb begin
    case (write_register)
      CONTROL, TARGET_ADDRESS, READ_COUNT: refused = occupied;
      TARGET, READ_ADDRESS: refused = 1'b0;
      default: refused = 1'b1;
    endcase
    if (!whole_word) refused = 1'b1;
  end
  always_ff @(posedge aclk) begin
    start      <= 1'b0;
    target_set <= 1'b0;
    read       <= 1'b0;
    // (what is not held may change, whether something comes or not)
    if (!address_held) write_register <= s_axil_awaddr[7:2];
    if (!data_held) begin
      write_data <= s_axil_wdata;
      whole_word <= s_axil_wstrb == 4'hf;
    end
    if (s_axil_awvalid) address_held <= 1'b1;
    if (s_axil_wvalid) data_held <= 1'b1;
    if (s_axil_bvalid && s_axil_bready) s_axil_bvalid <= 1'b0;
    if (commit) begin
      address_held  <= 1'b0;
      data_held     <= 1'b0;
      s_axil_bvalid <= 1'b1;
      s_axil_bresp  <= refused ? SLVERR : OKAY;
      if (!refused)
        case (write_register)
          CONTROL: start <= write_data[0];
          TARGET: target <= write_data[2:0];
          TARGET_ADDRESS: begin
            target_address <= write_data;
            target_set     <= 1'b1;
          end
          READ_ADDRESS: read_address <= write_data;
          default: begin
            read_count <= write_data[23:0];
            read       <= write_data[23:0] != 0;
          end
        endcase
    end
    if (reset) begin
      address_held  <= 1'b0;
      data_held     <= 1'b0;
      s_axil_bvalid <= 1'b0;
      start         <= 1'b0;
      target_set    <= 1'b0;
      read          <= 1'b0;
      target        <= '0;
    end
  end

  // ---- reads
  assign s_axil_arready = !s_axil_rvalid && !reset;
  always_ff @(posedge aclk) begin
    if (s_axil_rvalid && s_axil_rready) s_axil_rvalid <= 1'b0;
    if (s_axil_arvalid && s_axil_arready) s_axil_rvalid <= 1'b1;
    if (!s_axil_rvalid) begin
      s_axil_rresp <= OKAY;
      case (s_axil_araddr[7:2])
        6'h00: s_axil_rdata <= ID;
        6'h01: s_axil_rdata <= VERSION;
        6'h02: s_axil_rdata <= {8'(L), 8'(R), 8'(O), 8'(I)};
        6'h03: s_axil_rdata <= {16'(P), 8'(T), 8'(B)};
        6'h04: s_axil_rdata <= GRANULES;
        6'h05: s_axil_rdata <= WEIGHT_WORDS;
        6'h06: s_axil_rdata <= REQUANT_TILES;
        6'h07: s_axil_rdata <= TABLE_ENTRIES;
        6'h08: s_axil_rdata <= INSTRUCTIONS;
        CONTROL: s_axil_rdata <= '0;
        STATUS: s_axil_rdata <= {layer, 13'b0, reading || read, error, busy || start};
        CYCLES: s_axil_rdata <= cycles;
        TARGET: s_axil_rdata <= {29'b0, target};
        TARGET_ADDRESS: s_axil_rdata <= target_address;
        READ_ADDRESS: s_axil_rdata <= read_address;
        READ_COUNT: s_axil_rdata <= {8'b0, read_count};
        default: begin
          // without a meaning; zero would become a reset of all bits, which an address decides on
          s_axil_rdata <= cycles;
          s_axil_rresp <= SLVERR;
        end
      endcase
    end
    if (reset) s_axil_rvalid <= 1'b0;
  end

  npu #(
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
  ) core (
      .clk(aclk),
      .reset,
      .start,
      .busy,
      .error,
      .cycles,
      .layer,
      .layer_start,
      .target_set,
      .target,
      .target_address,
      .in_valid(s_axis_tvalid),
      .in_ready(s_axis_tready),
      .in_data(s_axis_tdata),
      .read,
      .read_address,
      .read_count,
      .reading,
      .out_valid(m_axis_tvalid),
      .out_ready(m_axis_tready),
      .out_data(m_axis_tdata),
      .out_last(m_axis_tlast)
  );
endmodule
