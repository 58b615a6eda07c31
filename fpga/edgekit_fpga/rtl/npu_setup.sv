// What a layer needs beside its instruction: products and sums that the sequencer prepares while
// the layer before is still at work. Addresses count granules modulo 2^24.
package npu_setup;
  typedef struct packed {
    logic [23:0] kernel_row;    // granules that kernel_height's next row adds, whole banks only
    logic [23:0] stride_row;    // the same for the next output row
    logic [23:0] start_row;     // where input row -pad_top begins
    logic [23:0] kernel_column; // granules that the next kernel column adds
    logic [23:0] stride_column; // granules (PACK: bytes) that the next output pixel adds
    logic [23:0] start_column;  // granules (PACK: bytes) of input column -pad_left
    logic [23:0] row_bytes;     // PACK: bytes of an input row
    logic [15:0] segment;       // PACK: bytes of a patch's row
    logic [15:0] taps;          // kernel_height * kernel_width
    logic [15:0] post;          // cycles that the requantizers, tables and adders need for a tile
  } setup_t;

  // Rows and columns of the grid that a window's taps are: the root of their number, rounded down.
  function automatic int window_side(int taps);
    window_side = 1;
    for (int side = 1; side * side <= taps; side++) window_side = side;
  endfunction
endpackage
