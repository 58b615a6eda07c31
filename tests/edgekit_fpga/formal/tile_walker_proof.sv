// The tile walker against the nested loops it stands for: y, x, tile; or block of N tiles, y, x, tile
// of the block. Each granule is where the memory layout of docs/npu-isa.md says, and `last` comes
// with the last one.
module tile_walker_proof #(
    parameter int STALLS = 0,  // `step` may be low, for the first steps of the loops only
    parameter int N = 2,
    parameter int B = 4,
    parameter int BANK_BITS = B > 1 ? $clog2(B) : 1
) (
    input logic        clk,
    input logic        step,
    input logic        blocked,
    input logic [23:0] base,
    input logic [15:0] row,
    input logic [11:0] pixel,
    input logic [3:0]  rotation,
    input logic [15:0] height,
    input logic [15:0] width,
    input logic [15:0] tiles
);
  logic [1:0] age = 0;
  logic [BANK_BITS-1:0] bank;
  logic [23:0] granule;
  logic [15:0] tile;
  logic first_pixel, last;
  tile_walker #(
      .N(N),
      .B(B)
  ) dut (
      .clk,
      .start(age == 0),
      .step(step && age == 2'd2),
      .blocked,
      .base,
      .row,
      .pixel,
      .rotation,
      .height,
      .width,
      .tiles,
      .bank,
      .granule,
      .tile,
      .first_pixel,
      .last
  );

  // the layer's description stands; sizes are small enough for the steps that are looked at
  logic [BANK_BITS-1:0] start_bank;
  assign start_bank = BANK_BITS'(rotation);
  always_comb begin
    assume (height >= 1 && height <= 3 && width >= 1 && width <= 2 && tiles >= 1 && tiles <= 3);
    if (STALLS == 0) assume (step);
    assume (rotation < 4'(B) && row < 64 && pixel < 16);
  end
  logic [112:0] layer;
  always_ff @(posedge clk) layer <= {blocked, base, row, pixel, rotation, height, width, tiles};
  always_comb
    if (age != 0) assume (layer == {blocked, base, row, pixel, rotation, height, width, tiles});

  // the loops, innermost first
  logic [1:0] y, x, t, block;
  logic t_last, done;
  assign t_last = t + 1'b1 == tiles[1:0] || (blocked && t + 1'b1 == block + 2'(N));
  always_ff @(posedge clk) begin
    if (age == 0) begin
      age   <= 2'd1;
      y     <= '0;
      x     <= '0;
      t     <= '0;
      block <= '0;
      done  <= 1'b0;
    end else if (age == 2'd1) age <= 2'd2;  // no step in the cycle after `start`
    else if (step && !done) begin
      t <= t + 1'b1;
      if (t_last) begin
        t <= block;
        x <= x + 1'b1;
        if (x + 1'b1 == width[1:0]) begin
          x <= '0;
          y <= y + 1'b1;
          if (y + 1'b1 == height[1:0]) begin
            y     <= '0;
            block <= block + 2'(N);
            t     <= block + 2'(N);
            done  <= !blocked || t + 1'b1 == tiles[1:0];
          end
        end
      end
    end
  end
  logic [3:0] line;
  assign line = 4'(y) + rotation;
  always_comb
    if (age == 2'd2 && !done) begin
      assert (tile == 16'(t) && tile < tiles);
      assert (bank == BANK_BITS'(line));
      assert (granule == base + (line >= 4'(B) ? 24'(row) : 24'd0) + (x == 1 ? 24'(pixel) : 24'd0)
                         + 24'(t));
      assert (first_pixel == (y == 0 && x == 0));
      assert (last == (t_last && x + 1'b1 == width[1:0] && y + 1'b1 == height[1:0]
                       && (!blocked || t + 1'b1 == tiles[1:0])));
    end
endmodule
