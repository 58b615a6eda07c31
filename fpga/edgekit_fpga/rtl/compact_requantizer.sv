// Takes an int32 accumulator, its bias included, to int8 as requantizer.sv does, bit for bit, with
// one multiplication and byte-wise shifts over several cycles.
//
// The multiplier is first shifted left until the product's binary point lies between two bytes; the
// product then moves right a byte a cycle, into 32 bits of fraction and a bit for whatever is lost
// below. A magnitude rounded to float32 is a tie if its fraction lies within half a float32 ulp
// of one half: with L bits before the point, if 25 - L bits of it say so.
//
// A sum of compact_post comes in behind the multiplication, in two's complement; its sign is taken
// off on the way, byte by byte.
//
// Handshake: `take` with `multiplier` and `shift`, the accumulator follows a cycle later, `offset`,
// `low` and `high` do not change meanwhile. An accumulator every 9 cycles at most; results come in
// order, 22 cycles after `take` at the latest. A sum is taken where `sum_valid` meets `sum_ready`;
// the operands that it is clamped by are the `sum_` ones, and `of_sum` comes with its result.
module compact_requantizer (
    input  logic               clk,
    input  logic               reset,
    input  logic               take,
    input  logic        [23:0] multiplier,
    input  logic        [ 5:0] shift,
    input  logic        [31:0] accumulator,
    input  logic signed [ 7:0] offset,
    input  logic signed [ 7:0] low,
    input  logic signed [ 7:0] high,
    input  logic               sum_valid,
    output logic               sum_ready,
    input  logic        [54:0] sum,
    input  logic        [ 3:0] sum_bytes,
    input  logic signed [ 7:0] sum_offset,
    input  logic signed [ 7:0] sum_low,
    input  logic signed [ 7:0] sum_high,
    output logic               of_sum,
    output logic               valid,
    output logic signed [ 7:0] result
);
  // ---- magnitude; multiplier shifted by (-shift) mod 8
  logic [31:0] absolute;
  logic [23:0] magnitude;
  logic [30:0] shifted;
  logic [2:0] left;
  logic [3:0] bytes, age;
  logic negative, taken;
  assign absolute = (accumulator ^ {32{accumulator[31]}}) + {31'b0, accumulator[31]};
  always_ff @(posedge clk) begin
    taken <= take;
    age   <= take ? 4'd1 : age == 0 || age == 4'd9 ? 4'd0 : age + 1'b1;
    if (taken) begin
      magnitude <= |absolute[31:24] ? 24'hffffff : absolute[23:0];
      negative  <= accumulator[31];
    end
    if (take) begin
      shifted <= {7'b0, multiplier};
      left    <= 3'(-shift[2:0]);
      bytes   <= {1'b0, shift[5:3]} + {3'b0, |shift[2:0]};
    end else if (left != 0) begin
      shifted <= shifted << 1;
      left    <= left - 1'b1;
    end
    if (reset) age <= '0;
  end

  // ---- the product: four multipliers, then their sum
  logic [31:0] low_low, middle;
  logic [30:0] low_high;
  logic [23:0] high_low;
  logic [22:0] high_high;
  compact_product #(
      .A(16),
      .B(16),
      .SIGNED(0),
      .FACTORS(0)
  ) product_0 (
      .clk,
      .a(magnitude[15:0]),
      .b(shifted[15:0]),
      .product(low_low)
  );
  compact_product #(
      .A(16),
      .B(15),
      .SIGNED(0),
      .FACTORS(0)
  ) product_1 (
      .clk,
      .a(magnitude[15:0]),
      .b(shifted[30:16]),
      .product(low_high)
  );
  compact_product #(
      .A(8),
      .B(16),
      .SIGNED(0),
      .FACTORS(0)
  ) product_2 (
      .clk,
      .a(magnitude[23:16]),
      .b(shifted[15:0]),
      .product(high_low)
  );
  compact_product #(
      .A(8),
      .B(15),
      .SIGNED(0),
      .FACTORS(0)
  ) product_3 (
      .clk,
      .a(magnitude[23:16]),
      .b(shifted[30:16]),
      .product(high_high)
  );
  assign middle = {1'b0, low_high} + {8'b0, high_low};

  // ---- byte by byte to the right; of a negative sum the complement, and one
  logic [54:0] whole;
  logic [31:0] fraction;
  logic [8:0] leaving;
  logic lost, sign, complement, carry, moving, done, second;
  logic [3:0] left_bytes;
  assign leaving = {1'b0, whole[7:0] ^ {8{complement}}} + {8'b0, carry};
  assign sum_ready = age == 0 && !moving;
  always_ff @(posedge clk) begin
    if (age == 4'd9 || (sum_valid && sum_ready)) begin
      whole      <= sum_ready ? sum
                  : {{high_high, low_low[31:16]} + {7'b0, middle}, low_low[15:0]};
      fraction   <= '0;
      lost       <= 1'b0;
      sign       <= sum_ready ? sum[54] : negative;
      complement <= sum_ready && sum[54];
      carry      <= sum_ready && sum[54];
      left_bytes <= sum_ready ? sum_bytes : bytes;
      second     <= sum_ready;
      moving     <= !reset;
    end else if (moving) begin
      left_bytes <= left_bytes - 1'b1;
      moving     <= left_bytes != 0 && !reset;
      if (left_bytes != 0) begin
        whole    <= {{8{complement}}, whole[54:8]};
        fraction <= {leaving[7:0], fraction[31:8]};
        carry    <= leaving[8];
        lost     <= lost || |fraction[7:0];
      end
    end
    if (reset) moving <= 1'b0;
  end

  // ---- rounding, in two steps: the bits before the point, then what the fraction adds to them.
  // The fraction may be gone by then where the product moved by 8 bytes, but then all is zero.
  logic [7:0] units;
  logic [8:0] coarse, unit, beyond, rounded;
  logic [24:0] x;
  logic below, close_above, close_below, up, beyond_int8, sign_1, sign_2, second_1, second_2, second_3;
  logic done_1, done_2;
  always_comb begin
    x      = fraction[31:7];
    below  = lost || |fraction[6:0];
    // bits of x that float32 has no room for: as many as there are bits before the point
    for (int k = 0; k < 9; k++) coarse[k] = k < 8 && |(units >> k);
    unit   = ~coarse & {coarse[7:0], 1'b1};
    beyond = x[8:0] & ~coarse;
    close_above = x[24] && x[23:9] == '0
               && (beyond == '0 || (beyond == unit && (x[8:0] & coarse) == '0 && !below));
    close_below = !x[24] && &x[23:9] && &(x[8:0] | coarse) && (coarse[0] || fraction[6]);
    up     = close_above || close_below ? units[0] : x[24];
  end
  always_ff @(posedge clk) begin
    units       <= leaving[7:0];
    beyond_int8 <= leaving[8] || |(whole[54:8] ^ {47{complement}});
    sign_1      <= sign;
    second_1    <= second;
    done        <= moving && left_bytes == 0 && !reset;
    // all magnitudes from 256 on saturate
    rounded     <= beyond_int8 ? 9'd256 : {1'b0, units} + {8'b0, up};
    sign_2      <= sign_1;
    second_2    <= second_1;
    done_1      <= done && !reset;
    second_3    <= second_2;
    of_sum      <= second_3;
    done_2      <= done_1 && !reset;
    valid       <= done_2 && !reset;
  end
  clamp finish (
      .clk,
      .whole(rounded),
      .negative(sign_2),
      .offset(second_2 ? sum_offset : offset),
      .low(second_3 ? sum_low : low),
      .high(second_3 ? sum_high : high),
      .result
  );
endmodule
