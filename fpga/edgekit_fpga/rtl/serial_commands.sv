// What a host says to the compact NPU over a line of bytes, and what it is answered: 32-bit words,
// little-endian.
//
//   0 memory address count words...  load words into a memory
//   1 limit count words...           run; the words are the weight stream of LOAD instructions
//                                    -> error, cycles, 0
//   2 address count                  read granules -> their words
//   3                                -> identity, version, array
//
// `error` is 0 for a run that ended, 1 for a program that the NPU refused, 2 for one that took more
// than `limit` cycles (counted in 256s) and was cut off. Words of a run that nobody took are dropped
// at its end. `core_reset` follows `broken`, so a host that lost its place sends a break.
//
// Handshake: `pop` takes a byte in a cycle where `byte_valid` is high; `send` meets `send_ready`.
module serial_commands #(
    parameter logic [31:0] ARRAY = 32'h01010104
) (
    input  logic        clk,
    input  logic        reset,
    // bytes
    input  logic        byte_valid,
    input  logic [ 7:0] byte_in,
    output logic        pop,
    output logic        send,
    input  logic        send_ready,
    output logic [ 7:0] send_byte,
    // the NPU's host port
    output logic        core_reset,
    output logic        start,
    input  logic        busy,
    input  logic        error,
    input  logic [31:0] cycles,
    output logic        target_set,
    output logic [ 2:0] target,
    output logic [31:0] address,
    output logic        in_valid,
    input  logic        in_ready,
    output logic [31:0] in_data,
    output logic        read,
    output logic [23:0] read_count,
    input  logic        reading,
    input  logic        out_valid,
    output logic        out_ready,
    input  logic [31:0] out_data
);
  localparam logic [31:0] IDENTITY = 32'h4e505531;
  localparam logic [31:0] VERSION = 32'd2;
  typedef enum logic [2:0] {COMMAND, MEMORY, ADDRESS, COUNT, LOAD, RUN, READ, ANSWER} state_t;
  state_t state;

  // ---- bytes to words
  logic [1:0] byte_number;
  logic word_valid, word_used, late, started;
  logic [1:0] command;
  logic [23:0] missing;
  logic more;  // words are missing
  assign pop        = byte_valid && !word_valid;
  assign in_valid   = word_valid && more
                   && (state == LOAD || (state == RUN && busy));
  assign read_count = missing;
  always_comb begin
    case (state)
      LOAD: word_used = in_ready;
      RUN: word_used = more && (busy ? in_ready : started);
      READ, ANSWER: word_used = 1'b0;
      default: word_used = 1'b1;
    endcase
  end
  always_ff @(posedge clk) begin
    if (pop) begin
      in_data     <= {byte_in, in_data[31:8]};
      byte_number <= byte_number + 1'b1;
      word_valid  <= byte_number == 2'd3;
    end else if (word_used) word_valid <= 1'b0;
    if (reset) begin
      byte_number <= '0;
      word_valid  <= 1'b0;
    end
  end

  // ---- words to bytes
  logic [31:0] answer, next_answer;
  logic [2:0] answer_bytes;
  logic [1:0] answers;
  assign send      = answer_bytes != 0;
  assign send_byte = answer[7:0];
  assign out_ready = state == READ && answer_bytes == 0 && out_valid;
  always_comb begin
    case (answers)
      2'd3: next_answer = command[1] ? IDENTITY : {30'b0, late, error && !late};
      2'd2: next_answer = command[1] ? VERSION : cycles;
      default: next_answer = command[1] ? ARRAY : 32'd0;
    endcase
  end
  always_ff @(posedge clk) begin
    if (out_ready) begin
      answer       <= out_data;
      answer_bytes <= 3'd4;
    end else if (state == ANSWER && answer_bytes == 0 && answers != 0) begin
      answer       <= next_answer;
      answer_bytes <= 3'd4;
      answers      <= answers - 1'b1;
    end else if (send && send_ready) begin
      answer       <= answer >> 8;
      answer_bytes <= answer_bytes - 1'b1;
    end
    if (state != ANSWER) answers <= 2'd3;
    if (reset) answer_bytes <= '0;
  end

  // ---- commands
  always_ff @(posedge clk) begin
    start      <= 1'b0;
    target_set <= 1'b0;
    read       <= 1'b0;
    core_reset <= reset;
    case (state)
      COMMAND: begin
        late    <= 1'b0;
        started <= 1'b0;
        command <= in_data[1:0];
        if (word_valid)
          state <= in_data[1:0] == 2'd0 ? MEMORY : in_data[1:0] == 2'd3 ? ANSWER : ADDRESS;
      end
      MEMORY: begin
        target <= in_data[2:0];
        if (word_valid) state <= ADDRESS;
      end
      ADDRESS: begin
        address <= in_data;
        if (word_valid) state <= COUNT;
      end
      COUNT: begin
        missing    <= in_data[23:0];
        more       <= in_data[23:0] != 0;
        target_set <= word_valid && command == 2'd0;
        start      <= word_valid && command == 2'd1;
        read       <= word_valid && command == 2'd2;
        if (word_valid) state <= command == 2'd0 ? LOAD : command == 2'd1 ? RUN : READ;
      end
      LOAD: begin
        if (word_valid && word_used) missing <= missing - 1'b1;
        if (word_valid && word_used && missing == 24'd1) more <= 1'b0;
        if (!more && !target_set) state <= COMMAND;
      end
      RUN: begin
        started <= 1'b1;
        if (word_valid && word_used) missing <= missing - 1'b1;
        if (word_valid && word_used && missing == 24'd1) more <= 1'b0;
        // `busy` shows a start in the cycle after
        if (busy && cycles[31:8] == address[31:8]) begin
          late       <= 1'b1;
          core_reset <= 1'b1;
        end
        if (started && !start && !busy && !more) state <= ANSWER;
      end
      READ: begin
        started <= 1'b1;
        if (started && !read && !reading && answer_bytes == 0) state <= COMMAND;
      end
      default: if (answers == 0 && answer_bytes == 0) state <= COMMAND;
    endcase
    if (reset) state <= COMMAND;
  end
endmodule
