// What follows a layer's sums: table look-up and residual add, one result at a time.
//
// An add is made of shifts and additions: the second operand's table entry is moved left until its
// binary point lies between two bytes, then the result's bits add the multiplier one by one. The sum
// goes to the requantizer, which rounds it.
//
// Handshake: a result comes in any cycle, but never sooner than the feeding side's pause after the
// one before; `second_valid` and `second` stand until `second_used`; `sum_valid` stands until
// `sum_ready`. Latency: 1 cycle, one more with a table; sums of adds at most 29 cycles.
module compact_post #(
    parameter int TABLE_ENTRIES = 256,
    parameter int TABLE_BITS = $clog2(TABLE_ENTRIES)
) (
    input  logic                  clk,
    input  logic                  reset,
    input  npu_isa::instruction_t instruction,
    input  logic                  valid_in,
    input  logic [           7:0] data_in,
    output logic                  valid_out,    // of results without an add
    output logic [           7:0] data_out,
    // the add's second operand, and its sum
    input  logic                  second_valid,
    input  logic [           7:0] second,
    output logic                  second_used,
    output logic                  sum_valid,
    input  logic                  sum_ready,
    output logic [          54:0] sum,          // two's complement
    output logic [           3:0] sum_bytes,    // of it after the binary point
    // loading the tables
    input  logic                  table_write,
    input  logic [TABLE_BITS-1:0] table_address,
    input  logic                  table_half,
    input  logic [          31:0] table_word
);
  // ---- tables: the upper words have 4 bits
  logic [35:0] entry;
  logic [TABLE_BITS-1:0] read_address;
  logic [7:0] index;
  logic looking_second;
  memory #(
      .WIDTH(32),
      .DEPTH(TABLE_ENTRIES)
  ) lower_words (
      .clk,
      .write(table_write && !table_half),
      .write_address(table_address),
      .write_data(table_word),
      .read_address,
      .read_data(entry[31:0])
  );
  memory #(
      .WIDTH(4),
      .DEPTH(TABLE_ENTRIES)
  ) upper_words (
      .clk,
      .write(table_write && table_half),
      .write_address(table_address),
      .write_data(table_word[3:0]),
      .read_address,
      .read_data(entry[35:32])
  );
  assign index = looking_second ? second : data_in;
  assign read_address = TABLE_BITS'(looking_second ? instruction.add_table : instruction.table_base)
                      + TABLE_BITS'(index);

  // ---- results, and those that an add waits for
  logic with_add, looked_up, ready;
  logic [7:0] result;
  assign ready    = looked_up || (valid_in && !instruction.table_flag);
  assign result   = looked_up ? entry[7:0] : data_in;
  always_ff @(posedge clk) begin
    with_add  <= instruction.add_flag && instruction.opcode != npu_isa::MUL;
    looked_up <= valid_in && instruction.table_flag && !reset;
    valid_out <= ready && !with_add && !reset;
    data_out  <= result;
  end

  // ---- the add
  typedef enum logic [2:0] {IDLE, LOOK, LOAD, ALIGN, ADD, GIVE} state_t;
  state_t state;
  logic [7:0] multiplicand;
  logic [39:0] multiplier;
  logic [4:0] entry_left, multiplier_left;
  logic [2:0] bits;
  logic [54:0] operand;
  logic step;
  logic [5:0] padded_shift;
  always_comb begin
    // fraction bits of the sum: the next multiple of 8 from the add's own on, 24 at least
    padded_shift = instruction.add_shift <= 6'd24 ? 6'd24
                 : instruction.add_shift <= 6'd32 ? 6'd32 : 6'd40;
    sum_bytes    = {1'b0, padded_shift[5:3]};
    // the last bit of the multiplicand is its sign
    case (state)
      LOAD: operand = {{19{entry[35]}}, entry};
      ALIGN: operand = sum;
      default: operand = {{15{multiplier[39]}}, multiplier} ^ {55{bits == 3'd7}};
    endcase
    step = state == LOAD || (state == ALIGN && entry_left != 0)
        || (state == ADD && multiplicand[0]);
  end
  assign looking_second = state == LOOK;
  assign second_used = state == LOOK && second_valid;
  assign sum_valid = state == GIVE;
  always_ff @(posedge clk) begin
    if (state == LOOK) sum <= '0;
    else if (step) sum <= sum + operand + 55'(state == ADD && bits == 3'd7);
    case (state)
      IDLE:
      if (ready && with_add) begin
        state        <= LOOK;
        multiplicand <= result;
      end
      LOOK: if (second_valid) state <= LOAD;
      LOAD: begin
        state           <= ALIGN;
        multiplier      <= {{15{instruction.add_multiplier[24]}}, instruction.add_multiplier};
        multiplier_left <= 5'(padded_shift - instruction.add_shift);
        entry_left      <= 5'(padded_shift - 6'd24);
      end
      ALIGN: begin
        if (entry_left != 0) entry_left <= entry_left - 1'b1;
        if (multiplier_left != 0) begin
          multiplier_left <= multiplier_left - 1'b1;
          multiplier      <= multiplier << 1;
        end
        bits <= '0;
        if (entry_left == 0 && multiplier_left == 0) state <= ADD;
      end
      ADD: begin
        multiplicand <= multiplicand >> 1;
        multiplier   <= multiplier << 1;
        bits         <= bits + 1'b1;
        if (bits == 3'd7) state <= GIVE;
      end
      default: if (sum_ready) state <= IDLE;
    endcase
    if (reset) state <= IDLE;
  end
endmodule
