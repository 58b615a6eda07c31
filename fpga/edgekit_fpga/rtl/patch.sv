// The patch of PACK: P bytes in the order ky, kx, c, put together from rows read at granules'
// borders. One is put together while others wait in a queue, the oldest of which is being used.
//
// Two rows a cycle go into the patch: a row's I bytes are rotated so that each comes to stand in the
// lane of its place; then every byte of the patch takes it from the row it lies in, if that is there.
//
// Handshake: a group of rows is taken where `push` meets `ready`, which is high as long as fewer than
// MOST patches are begun and not done, and the rows of the group before are on their way; behind it
// nothing needs to wait. `complete` is high for a cycle for every patch; from two cycles later on it
// may be used, as `bytes`, until `done`.
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
  localparam int W = B > 1 ? 2 : 1;  // rows a cycle
  localparam int TURN_BITS = $clog2(B / W + 1);
  logic [3:1] held, held_first, held_last;
  logic [MOST_BITS-1:0] begun, begun_next;  // and not done
  logic [TURN_BITS-1:0] turns, turn;        // of a group, the first apart; those to come
  logic taken, group_last;
  assign taken      = push && ready;
  assign begun_next = begun + MOST_BITS'(taken && first_group && first_chunk) - MOST_BITS'(done);
  always_ff @(posedge clk) begin
    turns <= instruction.kernel_height >= 16'(B) ? TURN_BITS'(B / W - 1)
           : TURN_BITS'((instruction.kernel_height - 16'd1) >> (W - 1));
    if (taken) group_last <= last;
    if (reset) turn <= '0;
    else if (taken) turn <= turns;
    else if (turn != 0) turn <= turn - 1'b1;
    held       <= reset ? '0 : {held[2:1], taken || turn != 0};
    held_first <= {held_first[2:1], taken && first_group && first_chunk};
    held_last  <= {held_last[2:1], taken ? last && turns == 0 : group_last && turn == 1};
    begun      <= reset ? '0 : begun_next;
    ready      <= !reset && begun_next != MOST_BITS'(MOST) && (taken ? turns == 0 : turn <= 1);
  end

  // Where a group's rows begin after its first, and the next group after it: these stand B cycles after
  // `segment`, sooner than anything has been read.
  logic signed [PLACE_BITS-1:0] segment, kernel_height;
  logic [B:0][PLACE_BITS-1:0] row_place;
  always_ff @(posedge clk) begin
    segment       <= PLACE_BITS'(setup.segment);
    kernel_height <= PLACE_BITS'(instruction.kernel_height);
    row_place[0]  <= '0;
    for (int k = 1; k <= B; k++) row_place[k] <= row_place[k-1] + segment;
  end

  // Stage 1: the group, its first rows in front. Where the first one begins in the patch, its number
  // in the kernel, and where the chunk's lane 0 stands, counted from a row's beginning.
  logic [B-1:0][I*8-1:0] rows_1;
  logic signed [PLACE_BITS-1:0] group_place, group_row, next_place, next_row;
  logic signed [PLACE_BITS-1:0] place, row, lane_zero;
  always_comb begin
    next_place = !first_chunk ? group_place : first_group ? '0 : group_place + row_place[B];
    next_row   = !first_chunk ? group_row : first_group ? '0 : group_row + PLACE_BITS'(B);
  end
  always_ff @(posedge clk) begin
    rows_1 <= ready ? rows : rows_1 >> (W * I * 8);
    place  <= place + row_place[W];
    row    <= row + PLACE_BITS'(W);
    if (taken) begin
      group_place <= next_place;
      group_row   <= next_row;
      place       <= next_place;
      row         <= next_row;
      lane_zero   <= first_chunk ? -$signed(PLACE_BITS'(offset)) : lane_zero + PLACE_BITS'(I);
    end
  end

  // Stage 2: of each row, where its lane 0 and which bytes of the patch it has.
  logic [W-1:0][I*8-1:0] rows_2;
  logic [W-1:0][PLACE_BITS-1:0] rotation, from, upto;
  always_ff @(posedge clk) begin
    rows_2 <= rows_1[W-1:0];
    for (int k = 0; k < W; k++) begin
      logic signed [PLACE_BITS-1:0] start, lane_end;
      start    = place + row_place[k];
      lane_end = lane_zero + PLACE_BITS'(I);
      rotation[k] <= start + lane_zero;
      from[k]     <= lane_zero < 0 ? start : start + lane_zero;
      upto[k]     <= row + PLACE_BITS'(k) >= kernel_height ? '0
                   : start + (lane_end < segment ? lane_end : segment);
    end
  end

  // Stage 3: every byte in the lane of its place; one bit a byte of the patch for what the row has.
  logic [W-1:0][I*8-1:0] rotated;
  logic [W-1:0][P-1:0] has;
  always_ff @(posedge clk)
    for (int k = 0; k < W; k++) begin
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
      for (int k = 0; k < W; k++)
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
