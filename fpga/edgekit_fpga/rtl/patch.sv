// The patch of PACK: P bytes in the order ky, kx, c, put together from rows read at granules'
// borders. Two copies: one that rows are placed into, one that is being used.
//
// A row's I bytes are rotated so that each comes to stand in the lane of its place in the patch;
// then every byte of the patch takes it from the row it lies in, if that is there.
//
// Handshake: a group of rows is taken where `push` meets `ready`; `valid` stands until `done`, and
// in that cycle the next patch moves in if it is complete.
module patch #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int B = 4,
    parameter int P = 80,
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
    output logic                   valid,
    output logic [        P*8-1:0] bytes,
    input  logic                   done
);

  logic take, placed, placed_last, place, full, move;
  assign move  = full && (!valid || done);
  assign place = placed && (!full || move);
  assign ready = !placed || place;
  assign take  = push && ready;

  // The current group: the place of its first row in the patch, that row's number in the kernel,
  // and where the chunk's lane 0 stands, counted from the row's place.
  logic [15:0] group_place, group_row, group_place_now, group_row_now;
  logic signed [15:0] lane_zero, lane_zero_now;
  always_comb begin
    group_place_now = group_place;
    group_row_now   = group_row;
    lane_zero_now   = lane_zero + 16'(I);
    if (first_chunk) begin
      group_place_now = first_group ? '0 : group_place + 16'(B) * setup.segment;
      group_row_now   = first_group ? '0 : group_row + 16'(B);
      lane_zero_now   = -$signed(16'(offset));
    end
  end

  // Stage 1: rotate, and say which bytes of the patch each row has.
  logic [B-1:0][I*8-1:0] rotated;
  logic [B-1:0][15:0] from, upto;
  always_ff @(posedge clk) begin
    if (take) begin
      group_place <= group_place_now;
      group_row   <= group_row_now;
      lane_zero   <= lane_zero_now;
      placed_last <= last;
      for (int k = 0; k < B; k++) begin
        logic [15:0] start, rotation, lane_end;
        start    = group_place_now + 16'(k) * setup.segment;
        rotation = start + lane_zero_now;
        lane_end = lane_zero_now + 16'(I);
        for (int i = 0; i < I; i++)
          rotated[k][i*8+:8] <= rows[k][((16'(i)-rotation)&16'(I-1))*8+:8];
        from[k] <= lane_zero_now[15] ? start : rotation;
        upto[k] <= group_row_now + 16'(k) >= instruction.kernel_height ? 16'd0
                 : start + (lane_end < setup.segment ? lane_end : setup.segment);
      end
    end
    if (reset) placed <= 1'b0;
    else placed <= take || (placed && !place);
  end

  // Stage 2: into place.
  logic [P*8-1:0] filling;
  always_ff @(posedge clk) begin
    if (place)
      for (int p = 0; p < P; p++)
        for (int k = 0; k < B; k++)
          if (16'(p) >= from[k] && 16'(p) < upto[k])
            filling[p*8+:8] <= rotated[k][(p%I)*8+:8];
    if (move) bytes <= filling;
    if (reset) begin
      full  <= 1'b0;
      valid <= 1'b0;
    end else begin
      full  <= (place && placed_last) || (full && !move);
      valid <= move || (valid && !done);
    end
  end
endmodule
