// Looks up tables and adds the residual operand, L bytes a cycle; passes granules on untouched
// where neither is asked for.
//
// A granule is taken in any cycle, but never sooner than `setup.post` cycles after the one before
// (the feeder sees to that): O / L cycles of table look-ups, then O / L of add look-ups.
//
// Latency: 1 cycle untouched; O / L + 2 with `table`; O / L (twice with `table`) + 11 with `add`.
// `leaving` is high in the cycle before `data_out` is a result. L is smaller than O.
module postprocessor #(
    parameter int O = 8,
    parameter int L = 1,
    parameter int TABLE_ENTRIES = 1024,
    parameter int TABLE_BITS = $clog2(TABLE_ENTRIES)
) (
    input  logic                  clk,
    input  logic                  reset,
    input  npu_isa::instruction_t instruction,
    input  logic                  valid_in,
    input  logic [O-1:0][7:0]     data_in,
    input  logic [O-1:0][7:0]     residual,
    output logic                  residual_pop,
    output logic                  leaving,
    output logic [O-1:0][7:0]     data_out,
    // loading the tables
    input  logic                  table_write,
    input  logic [TABLE_BITS-1:0] table_address,
    input  logic [35:0]           table_entry
);
  localparam int TURNS = O / L;
  localparam int TURN_BITS = TURNS > 1 ? $clog2(TURNS) : 1;
  // What the instruction says, in registers near by.
  logic with_table, with_add;
  logic [TABLE_BITS-1:0] table_base, add_base;
  logic signed [24:0] multiplier;
  logic signed [7:0] offset, low, high;
  always_ff @(posedge clk) begin
    with_table <= instruction.table_flag;
    with_add   <= instruction.add_flag && instruction.opcode != npu_isa::MUL;
    table_base <= TABLE_BITS'(instruction.table_base);
    add_base   <= TABLE_BITS'(instruction.add_table);
    multiplier <= instruction.add_multiplier;
    offset     <= instruction.add_offset;
    low        <= instruction.add_low;
    high       <= instruction.add_high;
  end
  assign residual_pop = valid_in && with_add;

  // ---- turn by turn: the lanes at the low end, and which table
  logic busy, adding, last_turn;
  logic [TURN_BITS-1:0] turn;
  logic [O-1:0][7:0] held, held_residual, looked_up;
  assign last_turn = turn == TURN_BITS'(TURNS - 1);
  always_ff @(posedge clk) begin
    if (valid_in && (with_table || with_add)) begin
      busy          <= 1'b1;
      adding        <= !with_table;
      turn          <= '0;
      held          <= data_in;
      held_residual <= residual;
    end else if (busy) begin
      turn <= last_turn ? '0 : turn + 1'b1;
      held <= held >> (L * 8);
      if (adding) held_residual <= held_residual >> (L * 8);
      if (last_turn) begin
        adding <= 1'b1;
        busy   <= !adding && with_add;
      end
    end
    if (reset) busy <= 1'b0;
  end

  // ---- cycle 1: tables
  logic [L-1:0][35:0] entries;
  logic [L-1:0][7:0] first_0, first_1;
  logic looked_up_1, add_1, last_1;
  logic [TURN_BITS-1:0] turn_1;
  genvar l;
  generate
    for (l = 0; l < L; l++) begin : g_table
      logic [7:0] index;
      // (what was looked up last is not at its place yet when the first one is wanted)
      assign first_0[l] = with_table ? looked_up[L+l] : held[l];
      assign index = adding ? held_residual[l] : held[l];
      memory #(
          .WIDTH(36),
          .DEPTH(TABLE_ENTRIES)
      ) entries_of_lane (
          .clk,
          .write(table_write),
          .write_address(table_address),
          .write_data(table_entry),
          .read_address((adding ? add_base : table_base) + TABLE_BITS'(index)),
          .read_data(entries[l])
      );
    end
  endgenerate
  logic [L-1:0][7:0] newest;
  always_comb for (int k = 0; k < L; k++) newest[k] = entries[k][7:0];
  always_ff @(posedge clk) begin
    looked_up_1 <= busy && !adding && !reset;
    add_1       <= busy && adding && !reset;
    last_1      <= last_turn;
    turn_1      <= turn;
    first_1     <= first_0;
  end

  always_ff @(posedge clk)
    if (looked_up_1 || (busy && adding)) looked_up <= (O * 8)'({newest, looked_up} >> (L * 8));

  // ---- add: product, shift, sum, magnitude, rounding, clamp; ADDING cycles from an entry to its sum
  localparam int ADDING = 9;
  logic [L-1:0][7:0] sums;
  logic [ADDING-1:0] add_under_way, add_last;
  logic [ADDING-1:0][TURN_BITS-1:0] add_turn;
  logic [5:0] fraction, left_product, left_entry;
  always_ff @(posedge clk) begin
    fraction     <= instruction.add_shift > 6'd24 ? instruction.add_shift : 6'd24;
    left_product <= instruction.add_shift > 6'd24 ? 6'd0 : 6'd24 - instruction.add_shift;
    left_entry   <= instruction.add_shift > 6'd24 ? instruction.add_shift - 6'd24 : 6'd0;
  end
  generate
    for (l = 0; l < L; l++) begin : g_add
      logic signed [7:0] first;
      logic signed [35:0] entry_2;
      logic signed [32:0] product, product_2;
      logic signed [49:0] product_wide, entry_wide, product_3, entry_3, total;
      logic [49:0] absolute;
      logic [48:0] magnitude;
      logic negative_in, negative;
      logic [8:0] whole;
      assign first = first_1[l];
      assign product = first * multiplier;
      assign product_wide = {{17{product_2[32]}}, product_2};
      assign entry_wide = {{14{entry_2[35]}}, entry_2};
      assign absolute = total[49] ? -total : total;
      always_ff @(posedge clk) begin
        product_2   <= product;
        entry_2     <= entries[l];
        product_3   <= product_wide << left_product;
        entry_3     <= entry_wide << left_entry;
        total       <= product_3 + entry_3;
        magnitude   <= absolute[48:0];
        negative_in <= total[49];
      end
      rounder #(
          .WIDTH(49)
      ) round (
          .clk,
          .magnitude,
          .negative_in,
          .fraction,
          .whole,
          .negative
      );
      clamp finish (
          .clk,
          .whole,
          .negative,
          .offset,
          .low,
          .high,
          .result(sums[l])
      );
    end
  endgenerate
  always_ff @(posedge clk) begin
    add_under_way <= reset ? '0 : {add_under_way[ADDING-2:0], add_1};
    add_last      <= {add_last[ADDING-2:0], last_1};
    add_turn      <= {add_turn[ADDING-2:0], turn_1};
  end

  // ---- out
  assign leaving = with_add ? add_under_way[ADDING-1] && add_last[ADDING-1]
                 : with_table ? looked_up_1 && last_1 : valid_in;
  always_ff @(posedge clk) begin
    if (with_add) begin
      for (int k = 0; k < L; k++)
        if (add_under_way[ADDING-1]) data_out[int'(add_turn[ADDING-1])*L+k] <= sums[k];
    end else if (with_table) begin
      for (int k = 0; k < L; k++)
        if (looked_up_1) data_out[int'(turn_1)*L+k] <= entries[k][7:0];
    end else data_out <= data_in;
  end
endmodule
