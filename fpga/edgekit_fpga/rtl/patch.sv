// The patch of PACK: P bytes in the order ky, kx, c, put together from rows read at granules'
// borders. One is put together while others wait in a queue, the oldest of which is being used.
//
// A row's I bytes are rotated so that each comes to stand in the lane of its place in the patch;
// then every byte of the patch takes it from the row it lies in, if that is there.
//
// Handshake: a group of rows is taken where `push` meets `ready`, which is high as long as fewer than
// MOST patches are begun and not done; so nothing on the way needs to wait. `complete` is high for a
// cycle for every patch; from two cycles later on it may be used, as `bytes`, until `done`.
module patch #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int P = 80,
    parameter int MOST = 8,
    parameter int OFFSET_BITS = O > 1 ? $clog2(O) : 1
) (
    input  logic                   clk,
    input  logic                   reset,
    input  npu_isa::instruction_t  instruction,
    input  npu_setup::setup_t      setup,
    input  logic                   push,
    input  logic [ B-1:0][I*8-1:0] rows,
    input  logic [OFFSET_BITS-1:0] offset,
    input  logic                   first_group,
    input  logic                   first_chunk,
    input  logic                   last,
    output logic                   ready,
    output logic                   complete,
    output logic [        P*8-1:0] bytes,
    input  logic                   done
);

  localparam int MOST_BITS = $clog2(MOST + 1);
  // Of places, signed: a group's last row may begin B - 1 rows after the patch, a chunk ends I further.
  localparam int PLACE_BITS = $clog2((B + 1) * P + 2 * I) + 1;
  logic [3:1] held, held_first, held_last;
  logic [MOST_BITS-1:0] begun, begun_next;  // and not done
  logic taken;
  assign taken      = push && ready;
  assign begun_next = begun + MOST_BITS'(taken && first_group && first_chunk) - MOST_BITS'(done);
  always_ff @(posedge clk) begin
    held       <= reset ? '0 : {held[2:1], taken};
    held_first <= {held_first[2:1], first_group && first_chunk};
    held_last  <= {held_last[2:1], last};
    begun      <= reset ? '0 : begun_next;
    ready      <= !reset && begun_next != MOST_BITS'(MOST);
  end

  // Where a group's rows begin after its first, and the next group after it: B cycles after `segment`
  // they stand, sooner than anything has been read.
  logic signed [PLACE_BITS-1:0] segment, kernel_height;
  logic [B:0][PLACE_BITS-1:0] row_place;
  always_ff @(posedge clk) begin
    segment       <= PLACE_BITS'(setup.segment);
    kernel_height <= PLACE_BITS'(instruction.kernel_height);
    row_place[0]  <= '0;
    for (int k = 1; k <= B; k++) row_place[k] <= row_place[k-1] + segment;
  end

  // Stage 1: the group. Where its first row begins in the patch, that row's number in the kernel,
  // and where the chunk's lane 0 stands, counted from a row's beginning.
  logic [B-1:0][I*8-1:0] rows_1, rows_2;
  logic signed [PLACE_BITS-1:0] group_place, group_row, lane_zero;
  always_ff @(posedge clk) begin
    rows_1 <= rows;
    if (taken) begin
      if (first_chunk) begin
        group_place <= first_group ? '0 : group_place + row_place[B];
        group_row   <= first_group ? '0 : group_row + PLACE_BITS'(B);
        lane_zero   <= -$signed(PLACE_BITS'(offset));
      end else lane_zero <= lane_zero + PLACE_BITS'(I);
    end
  end

  // Stage 2: of each row, where its lane 0 and which bytes of the patch it has.
  logic [B-1:0][PLACE_BITS-1:0] rotation, from, upto;
  always_ff @(posedge clk) begin
    rows_2 <= rows_1;
    for (int k = 0; k < B; k++) begin
      logic signed [PLACE_BITS-1:0] start, lane_end;
      start    = group_place + row_place[k];
      lane_end = lane_zero + PLACE_BITS'(I);
      rotation[k] <= start + lane_zero;
      from[k]     <= lane_zero < 0 ? start : start + lane_zero;
      upto[k]     <= group_row + PLACE_BITS'(k) >= kernel_height ? '0
                   : start + (lane_end < segment ? lane_end : segment);
    end
  end

  // Stage 3: every byte in the lane of its place; one bit a byte of the patch for what the row has.
  logic [B-1:0][I*8-1:0] rotated;
  logic [B-1:0][P-1:0] has;
  always_ff @(posedge clk)
    for (int k = 0; k < B; k++) begin
      rotated[k] <= turned(rows_2[k], $clog2(I)'(rotation[k]));
      has[k]     <= below(upto[k]) & ~below(from[k]);
    end

  // Byte i comes to stand in lane i + `lanes`: a step of a power of two at a time.
  function automatic logic [I*8-1:0] turned(logic [I*8-1:0] row, logic [$clog2(I)-1:0] lanes);
    turned = row;
    for (int b = 0; b < $clog2(I); b++)
      if (lanes[b]) turned = (turned << (8 << b)) | (turned >> (I * 8 - (8 << b)));
  endfunction

  // Which bytes of the patch lie below `place`.
  function automatic logic [P-1:0] below(logic [PLACE_BITS-1:0] place);
    logic [(P+7)/8-1:0] past, here;
    logic [7:0] low;
    for (int h = 0; h < (P + 7) / 8; h++) begin
      past[h] = place[PLACE_BITS-1:3] > (PLACE_BITS - 3)'(h);
      here[h] = place[PLACE_BITS-1:3] == (PLACE_BITS - 3)'(h);
    end
    for (int l = 0; l < 8; l++) low[l] = place[2:0] > 3'(l);
    for (int p = 0; p < P; p++) below[p] = past[p/8] || (here[p/8] && low[p%8]);
  endfunction

  // Into place: a patch begins with zeros, and no two rows have the same byte of it.
  logic [P*8-1:0] filling, placed;
  always_comb
    for (int p = 0; p < P; p++) begin
      placed[p*8+:8] = filling[p*8+:8] & {8{!held_first[3]}};
      for (int k = 0; k < B; k++)
        placed[p*8+:8] = placed[p*8+:8] | (rotated[k][(p%I)*8+:8] & {8{has[k][p]}});
    end
  always_ff @(posedge clk) begin
    if (held[3]) filling <= placed;
    complete <= held[3] && held_last[3] && !reset;
  end
  logic unused_valid, unused_room;
  fifo #(
      .WIDTH(P * 8),
      .DEPTH(2 ** $clog2(MOST))
  ) patches (
      .clk,
      .reset,
      .push(complete),
      .push_data(filling),
      .pop(done),
      .valid(unused_valid),
      .room(unused_room),
      .data(bytes)
  );
endmodule
