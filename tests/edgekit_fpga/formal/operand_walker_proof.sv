// The operand walker against the nested loops of docs/npu-isa.md, for every layer instruction with
// small sizes: each request names the row, the column (PACK: the byte) and the granule that the
// memory layout gives the loops' indices, and `last` and `last_of_block` come where they must.
module operand_walker_proof #(
    parameter int OPCODE = 2,
    parameter int STALLS = 0,  // `ready` may be low, for the first steps of the loops only
    parameter int I = 4,
    parameter int O = 2,
    parameter int B = 2,
    parameter int S = 2  // so that kernels of three rows are chains
) (
    input logic                  clk,
    input logic                  ready,
    input npu_isa::instruction_t given
);
  localparam int N = I / O;
  npu_isa::instruction_t instruction;
  npu_setup::setup_t setup;
  logic [1:0] age = 0;
  logic valid, grouped, first_group, first_chunk, last, last_of_block;
  logic [0:0] bank;
  logic [23:0] granule, x;
  logic [17:0] y;
  operand_walker #(
      .I(I),
      .O(O),
      .B(B),
      .S(S)
  ) dut (
      .clk,
      .reset(age == 0),
      .start(age == 1),
      .instruction,
      .setup,
      .ready,
      .valid,
      .grouped,
      .bank,
      .granule,
      .y,
      .x,
      .first_group,
      .first_chunk,
      .last,
      .last_of_block
  );

  // ---- a layer, which stands; what the sequencer prepares of it
  logic conv, window, map, pack, mul;
  logic signed [7:0] top, left, rotation, channels, segment;
  assign conv     = instruction.opcode == npu_isa::CONV;
  assign map      = instruction.opcode == npu_isa::MAP;
  assign pack     = instruction.opcode == npu_isa::PACK;
  assign mul      = instruction.opcode == npu_isa::MUL;
  assign window   = instruction.opcode == npu_isa::DWCONV || instruction.opcode == npu_isa::MAXPOOL;
  assign top      = {7'b0, instruction.pad_top[0]};
  assign left     = {7'b0, instruction.pad_left[0]};
  assign rotation = {7'b0, instruction.in_rotation[0]};
  assign channels = 8'(instruction.advance_or_channels);
  assign segment  = instruction.kernel_width[1] ? channels <<< 1 : channels;
  always_ff @(posedge clk) begin
    if (age == 0) instruction <= given;
    if (age != 2'd2) age <= age + 1'b1;
  end
  logic [23:0] column_unit;
  assign column_unit = pack ? 24'(instruction.advance_or_channels) : 24'(instruction.in_pixel);
  always_comb begin
    if (STALLS == 0) assume (ready);
    assume (given.opcode == 8'(OPCODE));
    // sizes that no sum of others comes to
    assume (given.in_rotation < 4'(B) && given.in_row == 61 && given.in_pixel == 7);
    assume (given.in_base == 1000);
    assume (given.pad_top < 2 && given.pad_left < 2);
    assume (given.out_height >= 1 && given.out_height <= 2);
    assume (given.out_width >= 1 && given.out_width <= 2);
    assume (given.out_granules >= 1 && given.out_granules <= 3);
    assume (given.in_granules >= 1 && given.in_granules <= 4);
    if (OPCODE == npu_isa::PACK) begin
      assume (given.advance_or_channels >= 1 && given.advance_or_channels <= 3);
      assume (given.dilation_height == 1 && given.dilation_width == 1);
    end else
      assume (given.advance_or_channels == 0
              || (given.in_granules <= 2 && given.advance_or_channels == 1));
    // there is nothing around MUL's plane
    if (OPCODE == npu_isa::MUL) assume (given.pad_top == 0 && given.pad_left == 0);
    assume (given.kernel_height >= 1 && given.kernel_height <= 3);
    assume (given.kernel_width >= 1 && given.kernel_width <= 2);
    assume (given.stride_height >= 1 && given.stride_height <= 2);
    assume (given.stride_width >= 1 && given.stride_width <= 2);
    assume (given.dilation_height >= 1 && given.dilation_height <= 2);
    assume (given.dilation_width >= 1 && given.dilation_width <= 2);
    assume (given.repeat_height >= 1 && given.repeat_height <= 2);
    assume (given.repeat_width >= 1 && given.repeat_width <= 2);

    setup = '0;
    setup.kernel_row    = instruction.dilation_height[1] ? 24'(instruction.in_row) : 24'd0;
    setup.stride_row    = !mul && instruction.stride_height[1] ? 24'(instruction.in_row) : 24'd0;
    setup.start_row     = rotation < top ? 24'd0 - 24'(instruction.in_row) : 24'd0;
    setup.kernel_column = times(8'(instruction.dilation_width), 24'(instruction.in_pixel));
    setup.stride_column = times(mul ? 8'sd1 : 8'(instruction.stride_width), column_unit);
    setup.start_column  = times(-left, column_unit);
    setup.segment       = 16'(segment);
  end

  // A small signed number times a size.
  function automatic logic [23:0] times(logic signed [7:0] factor, logic [23:0] size);
    times = '0;
    for (int k = -2; k < 8; k++) if (factor == 8'(k)) times = 24'(k) * size;
  endfunction

  // ---- the loops
  logic signed [7:0] block, oy, ox, t, ky, kx, j, rows, columns, height, width, tiles, group, first_x;
  logic reuse, group_of_rows, j_last, ky_last, kx_last, t_last, x_last, y_last, done, pixel_last;
  always_comb begin
    height        = 8'(instruction.out_height);
    width         = 8'(instruction.out_width);
    tiles         = window || pack ? 8'sd1 : 8'(instruction.out_granules);
    rows          = map || mul ? 8'sd1 : 8'(instruction.kernel_height);
    // PACK reads a kernel row's columns together
    columns       = map || mul || pack ? 8'sd1 : 8'(instruction.kernel_width);
    group_of_rows = pack || (window && instruction.dilation_height == 8'd1 && rows <= 8'(S)
                             && columns <= 8'(S));
    group         = group_of_rows ? 8'(B) : 8'sd1;
    reuse         = window && instruction.dilation_width == 8'd1
                 && 8'(instruction.stride_width) < columns;
    // columns that the pixel before had are not read again
    first_x = reuse && ox + 8'sd1 != width ? columns - 8'(instruction.stride_width) : 8'sd0;
    // PACK: until I bytes a chunk have all of the row, from any byte of a granule on
    if (pack) j_last = (j + 8'sd1) * 8'(I) >= segment + 8'(O - 1);
    else
      j_last = !(conv && instruction.advance_or_channels == 0)
            || j + 8'sd1 == (8'(instruction.in_granules) + 8'sd1) >>> 1;
    ky_last    = ky + group >= rows;
    kx_last    = kx + 8'sd1 == columns;
    t_last     = t + 8'sd1 == tiles;
    x_last     = ox + 8'sd1 == width;
    y_last     = oy + 8'sd1 == height;
    pixel_last = j_last && ky_last && kx_last;
  end
  always_ff @(posedge clk) begin
    if (age != 2'd2) begin
      {block, oy, ox, t, ky, kx, j} <= '0;
      done <= 1'b0;
    end else if (valid && ready && !done) begin
      j <= j_last ? 8'sd0 : j + 8'sd1;
      if (window) begin
        ky <= ky_last ? 8'sd0 : ky + group;
        if (ky_last) kx <= kx + 8'sd1;
      end else if (j_last) begin
        kx <= kx_last ? 8'sd0 : kx + 8'sd1;
        if (kx_last) ky <= ky_last ? 8'sd0 : ky + group;
      end
      if (pixel_last) begin
        t  <= t_last ? 8'sd0 : t + 8'sd1;
        kx <= window ? first_x : 8'sd0;
      end
      if (pixel_last && t_last) ox <= x_last ? 8'sd0 : ox + 8'sd1;
      if (pixel_last && t_last && x_last) begin
        oy <= y_last ? 8'sd0 : oy + 8'sd1;
        if (y_last) begin
          block <= block + 8'(N);
          done  <= !window || block + 8'(N) >= 8'(instruction.out_granules);
        end
      end
    end
  end

  // ---- where they must lead
  logic signed [7:0] in_y, in_x, line, in_byte;
  always_comb begin
    // row and column of the output are 0 or 1, strides and dilations 1 or 2
    in_y = (oy == 0 || (map && instruction.repeat_height[1]) ? 8'sd0
            : mul ? 8'sd1 : 8'(instruction.stride_height))
         - top + (instruction.dilation_height[1] ? ky <<< 1 : ky);
    in_x = (ox == 0 || (map && instruction.repeat_width[1]) ? 8'sd0
            : mul ? 8'sd1 : 8'(instruction.stride_width))
         - left + (instruction.dilation_width[1] ? kx <<< 1 : kx);
    line = in_y + rotation;
    // where the pixel begins in its dense row
    in_byte = 8'(times(in_x, 24'(channels)));
    if (age == 2'd2) begin
      if (done) assert (!valid);
      else if (valid) begin
        assert (grouped == group_of_rows);
        assert (y == 18'(in_y));
        assert (x == (pack ? 24'(in_byte) + 24'(j) * 24'(I) : 24'(in_x)));
        assert (bank == line[0]);
        assert (granule == instruction.in_base + times(line >>> 1, 24'(instruction.in_row))
                         + (pack ? 24'(in_byte >>> 1)
                                 : times(in_x, 24'(instruction.in_pixel)) + 24'(block))
                         + (map || mul || (conv && channels != 0) ? 24'(t) : 24'd0)
                         + 24'(j) * 24'(N));
        assert (first_group == (ky == 0));
        assert (first_chunk == (j == 0));
        assert (last == pixel_last);
        assert (last_of_block == (pixel_last && x_last && y_last));
      end
    end
  end
endmodule
