// round(S, F) of docs/npu-isa.md for a magnitude, as it is written there: subtract and compare.
package rounding;
  function automatic logic [63:0] rounded(logic [63:0] value, logic [5:0] fraction);
    logic [63:0] below, half, quotient, distance, reach;
    // half a float32 ulp of the magnitude: 2^(n - 25) for a number of n >= 25 bits
    reach = '0;
    for (int k = 24; k < 64; k++) if (value[k]) reach = 64'd1 << (k - 24);
    below    = value & ((64'd1 << fraction) - 64'd1);
    half     = (64'd1 << fraction) >> 1;
    quotient = value >> fraction;
    distance = below > half ? below - half : half - below;
    if (fraction == 0) rounded = value;
    else if (distance <= reach) rounded = quotient + (quotient & 64'd1);
    else rounded = quotient + (below > half ? 64'd1 : 64'd0);
  endfunction
endpackage
