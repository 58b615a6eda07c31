// A memory with one write port and one read port, both synchronous; read data lasts until the next
// read. What a read gives of the word being written in the same cycle is undefined, so that no
// logic is spent on it.
//
// Where DEPTH is no power of two the words beyond the largest one below it are a memory of their
// own: 2,560 words are 2,048 and 512, which need one multiplexer of two behind them and not of five.
//
// Latency of a read: 1 cycle; or 2, with a register between the cells and that multiplexer, for cells
// that lie all over the chip.
module memory #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 16,
    parameter int LATENCY = 1,
    parameter int BITS  = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input  logic             clk,
    input  logic             write,
    input  logic [ BITS-1:0] write_address,
    input  logic [WIDTH-1:0] write_data,
    input  logic [ BITS-1:0] read_address,
    output logic [WIDTH-1:0] read_data
);
  generate
    if (DEPTH == 1 << BITS || DEPTH == 1) begin : g_whole
      (* no_rw_check *)
      logic [WIDTH-1:0] cells[DEPTH];
      logic [WIDTH-1:0] cell_data;
      always_ff @(posedge clk) begin
        if (write) cells[write_address] <= write_data;
        cell_data <= cells[read_address];
      end
      if (LATENCY == 1) begin : g_direct
        assign read_data = cell_data;
      end else begin : g_registered
        always_ff @(posedge clk) read_data <= cell_data;
      end
    end else begin : g_parts
      localparam int LOW = 1 << (BITS - 1);
      localparam int REST = DEPTH - LOW;
      localparam int REST_BITS = REST > 1 ? $clog2(REST) : 1;
      logic [LATENCY:1] in_rest;
      logic [WIDTH-1:0] low_data, rest_data;
      memory #(
          .WIDTH(WIDTH),
          .DEPTH(LOW),
          .LATENCY(LATENCY)
      ) low (
          .clk,
          .write(write && !write_address[BITS-1]),
          .write_address(write_address[BITS-2:0]),
          .write_data,
          .read_address(read_address[BITS-2:0]),
          .read_data(low_data)
      );
      memory #(
          .WIDTH(WIDTH),
          .DEPTH(REST),
          .LATENCY(LATENCY)
      ) rest (
          .clk,
          .write(write && write_address[BITS-1]),
          .write_address(REST_BITS'(write_address)),
          .write_data,
          .read_address(REST_BITS'(read_address)),
          .read_data(rest_data)
      );
      always_ff @(posedge clk) in_rest <= LATENCY'({in_rest, read_address[BITS-1]});
      assign read_data = in_rest[LATENCY] ? rest_data : low_data;
    end
  endgenerate
endmodule
