// The activation memory and everything that reads it: the operands of a layer in the order of
// operand_walker, padding filled in; the residual operand in the order of tile_walker; the host.
//
// Operands and residual granules wait in a queue each, of DEPTH, a power of two. A request is sent
// only if the queue has room for what is under way. Where both want the same bank the operand goes
// first, unless the residual queue runs dry.
//
// The walkers' requests wait in a short queue each, so that neither walker need know in the same cycle
// whether one goes.
//
// Latency: 7 cycles from the operand walker's request to the queue's output, 6 from the residual
// walker's; one request of each kind a cycle.
module operand_reader #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int S = 4,
    parameter int GRANULES = 2048,
    parameter int DEPTH = 16,
    parameter int BANK_BITS = B > 1 ? $clog2(B) : 1,
    parameter int OFFSET_BITS = O > 1 ? $clog2(O) : 1
) (
    input  logic                   clk,
    input  logic                   reset,
    input  logic                   start,
    input  npu_isa::instruction_t  instruction,
    input  npu_setup::setup_t      setup,
    // writes
    input  logic                   write,
    input  logic [  BANK_BITS-1:0] write_bank,
    input  logic [           23:0] write_granule,
    input  logic [        O*8-1:0] write_data,
    // the host reads while no layer runs; data follows 5 cycles after the address
    input  logic                   host_read,
    input  logic [  BANK_BITS-1:0] host_bank,
    input  logic [           23:0] host_granule,
    output logic [        O*8-1:0] host_data,
    // operands: B rows of I bytes
    output logic                   operand_grouped,     // a column's rows come together
    output logic                   operand_arrives,     // the queue will have one more in 2 cycles
    output logic                   operand_valid,
    output logic [B-1:0][I*8-1:0]  operand_rows,
    output logic [OFFSET_BITS-1:0] operand_offset,      // PACK: of the first byte in its granule
    output logic                   operand_first_group,
    output logic                   operand_first_chunk,
    output logic                   operand_last,
    output logic                   operand_last_of_block,
    input  logic                   operand_pop,
    // residual operand
    output logic                   residual_arrives,    // the queue will have one more
    output logic [        O*8-1:0] residual_data,
    input  logic                   residual_pop
);
  localparam int CB = $clog2(DEPTH) + 1;
  localparam int OB = O > 1 ? $clog2(O) : 0;
  localparam int N = I / O;

  // ---- requests
  typedef struct packed {
    logic [BANK_BITS-1:0] bank;
    logic [23:0] granule;
    logic [17:0] y;
    logic [23:0] x;
    logic first_group, first_chunk, last, last_of_block;
  } request_t;
  request_t asked, request;
  logic walker_valid, walker_ready, operand_request, operand_ready, grouped;
  assign operand_grouped = grouped;
  operand_walker #(
      .I(I),
      .O(O),
      .B(B),
      .S(S)
  ) operands (
      .clk,
      .reset,
      .start,
      .instruction,
      .setup,
      .ready(walker_ready),
      .valid(walker_valid),
      .grouped,
      .bank(asked.bank),
      .granule(asked.granule),
      .y(asked.y),
      .x(asked.x),
      .first_group(asked.first_group),
      .first_chunk(asked.first_chunk),
      .last(asked.last),
      .last_of_block(asked.last_of_block)
  );
  fifo #(
      .WIDTH($bits(asked)),
      .DEPTH(4)
  ) requests (
      .clk,
      .reset(reset || start),
      .push(walker_valid && walker_ready),
      .push_data(asked),
      .pop(operand_ready),
      .valid(operand_request),
      .room(walker_ready),
      .data(request)
  );

  logic start_1, residual_walks, residual_step, residual_last, window;
  logic residual_request, residual_room, residual_ready;
  logic [BANK_BITS-1:0] walked_bank, residual_bank;
  logic [23:0] walked_granule, residual_granule;
  logic [15:0] unused_tile;
  logic unused_first;
  always_ff @(posedge clk)
    window <= instruction.opcode == npu_isa::DWCONV || instruction.opcode == npu_isa::MAXPOOL;
  tile_walker #(
      .N(N),
      .B(B)
  ) residuals (
      .clk,
      .start,
      .step(residual_step),
      .blocked(window),
      .base(instruction.add_base),
      .row(instruction.add_row),
      .pixel(instruction.add_pixel),
      .rotation(instruction.add_rotation),
      .height(instruction.out_height),
      .width(instruction.out_width),
      .tiles(instruction.out_granules),
      .bank(walked_bank),
      .granule(walked_granule),
      .tile(unused_tile),
      .first_pixel(unused_first),
      .last(residual_last)
  );
  assign residual_step = residual_walks && residual_room;
  always_ff @(posedge clk) begin
    start_1 <= start && !reset;
    if (reset || start) residual_walks <= 1'b0;
    else if (start_1)
      residual_walks <= instruction.add_flag || instruction.opcode == npu_isa::MUL;
    else if (residual_step && residual_last) residual_walks <= 1'b0;
  end
  fifo #(
      .WIDTH(BANK_BITS + 24),
      .DEPTH(4)
  ) residual_requests (
      .clk,
      .reset(reset || start),
      .push(residual_step),
      .push_data({walked_bank, walked_granule}),
      .pop(residual_ready),
      .valid(residual_request),
      .room(residual_room),
      .data({residual_bank, residual_granule})
  );

  // ---- who goes
  // The counts learn of what has left the queues a cycle later. Full is their top bit. Whether both
  // want one bank is known last.
  logic [CB-1:0] operand_count, residual_count;
  logic operand_popped, residual_popped;
  logic clash, operand_may, residual_may, urgent, operand_first;
  always_comb begin
    clash          = grouped || request.bank == residual_bank;
    operand_may    = operand_request && !operand_count[CB-1];
    residual_may   = residual_request && !residual_count[CB-1];
    urgent         = residual_may && residual_count < CB'(2);
    operand_first  = operand_may && !urgent;
    operand_ready  = operand_may && !(clash && urgent);
    residual_ready = residual_may && !(clash && operand_first);
  end
  always_ff @(posedge clk) begin
    operand_popped  <= operand_pop && !(reset || start);
    residual_popped <= residual_pop && !(reset || start);
    if (reset || start) begin
      operand_count  <= '0;
      residual_count <= '0;
    end else begin
      operand_count  <= operand_count + CB'(operand_ready) - CB'(operand_popped);
      residual_count <= residual_count + CB'(residual_ready) - CB'(residual_popped);
    end
  end

  // ---- banks
  logic [15:0] next_row;
  always_ff @(posedge clk) next_row <= instruction.in_row;
  logic [B-1:0][23:0] address;
  logic [B-1:0][I*8-1:0] bank_data;
  always_comb begin
    for (int b = 0; b < B; b++) begin
      // rows that wrapped around to the first banks lie one row further on
      address[b] = request.granule
          + (grouped && b < int'(request.bank) ? {8'b0, next_row} : 24'd0);
      // (what a bank reads that nobody wants does not matter)
      if (b == int'(residual_bank) && !(clash && operand_first)) address[b] = residual_granule;
      if (host_read) address[b] = host_granule;
    end
  end
  genvar g;
  generate
    for (g = 0; g < B; g++) begin : g_bank
      activation_bank #(
          .I(I),
          .O(O),
          .GRANULES(GRANULES)
      ) memory (
          .clk,
          .write(write && write_bank == BANK_BITS'(g)),
          .write_granule,
          .write_data,
          .read_granule(address[g]),
          .read_data(bank_data[g])
      );
    end
  endgenerate

  // ---- beside the memories: which row and lane is padding, from the second cycle on
  // (a number below zero is a large one without its sign)
  request_t request_1;
  logic [23:0] limit, first_byte;
  logic [B-1:0] row_pad;
  logic [I-1:0] lane_pad;
  logic [7:0] pad_value;
  logic [15:0] height;
  logic pack;
  always_ff @(posedge clk) begin
    pad_value <= instruction.pad_value;
    height    <= instruction.in_height;
    pack  <= instruction.opcode == npu_isa::PACK;
    limit <= pack ? setup.row_bytes : {8'b0, instruction.in_width};
  end
  always_comb begin
    // PACK: the byte in lane 0; else every lane has the column's number
    first_byte = pack ? (request_1.x >> OB) << OB : request_1.x;
    for (int i = 0; i < I; i++)
      lane_pad[i] = first_byte + (pack ? 24'(i) : 24'd0) >= limit;
    for (int k = 0; k < B; k++) row_pad[k] = request_1.y + 18'(k) >= {2'b0, height};
  end

  localparam int TAG = B + I + BANK_BITS + OFFSET_BITS + 4;
  logic [4:2][TAG-1:0] tag;
  logic [3:0] operand_under_way, residual_under_way;
  logic [3:0][BANK_BITS-1:0] residual_from;
  logic [B-1:0] row_pad_4;
  logic [I-1:0] lane_pad_4;
  logic [BANK_BITS-1:0] bank_4;
  logic [OFFSET_BITS-1:0] offset_4;
  logic [3:0] flags_4;
  assign {row_pad_4, lane_pad_4, bank_4, offset_4, flags_4} = tag[4];
  always_ff @(posedge clk) begin
    request_1 <= request;
    tag <= {tag[3:2], row_pad, lane_pad, request_1.bank, OFFSET_BITS'(request_1.x & 24'(O - 1)),
            request_1.first_group, request_1.first_chunk, request_1.last, request_1.last_of_block};
    residual_from <= {residual_from[2:0], host_read ? host_bank : residual_bank};
    operand_under_way  <= reset || start ? '0 : {operand_under_way[2:0], operand_ready};
    residual_under_way <= reset || start ? '0 : {residual_under_way[2:0], residual_ready};
  end

  // ---- rows into order, padding into place
  logic [B-1:0][I*8-1:0] rows;
  logic [OFFSET_BITS-1:0] offset_5;
  logic [3:0] flags_5;
  logic push_5;
  always_ff @(posedge clk) begin
    for (int k = 0; k < B; k++)
      for (int i = 0; i < I; i++)
        rows[k][i*8+:8] <= row_pad_4[k] || lane_pad_4[i] ? pad_value
                         : bank_data[BANK_BITS'(bank_4 + BANK_BITS'(k)) & BANK_BITS'(B-1)][i*8+:8];
    offset_5 <= offset_4;
    flags_5  <= flags_4;
    push_5   <= operand_under_way[3] && !(reset || start);
  end
  logic [O*8-1:0] granule_4;
  assign granule_4 = bank_data[residual_from[3]][O*8-1:0];
  always_ff @(posedge clk) host_data <= granule_4;

  // ---- queues
  logic unused_operand_room;
  fifo #(
      .WIDTH(B * I * 8 + OFFSET_BITS + 4),
      .DEPTH(DEPTH)
  ) operand_queue (
      .clk,
      .reset(reset || start),
      .push(push_5),
      .push_data({rows, offset_5, flags_5}),
      .pop(operand_pop),
      .valid(operand_valid),
      .room(unused_operand_room),
      .data({operand_rows, operand_offset, operand_first_group, operand_first_chunk,
             operand_last, operand_last_of_block})
  );
  logic unused_valid, unused_room;
  fifo #(
      .WIDTH(O * 8),
      .DEPTH(DEPTH)
  ) residual_queue (
      .clk,
      .reset(reset || start),
      .push(residual_under_way[3]),
      .push_data(granule_4),
      .pop(residual_pop),
      .valid(unused_valid),
      .room(unused_room),
      .data(residual_data)
  );
  assign operand_arrives  = operand_under_way[3];
  assign residual_arrives = residual_under_way[3];
endmodule
