// One bank of activation memory: reads I bytes from any granule on, writes one granule of O bytes.
//
// The bank is I / O memories of one granule's width; consecutive granules lie in consecutive
// memories, so any I / O of them are read at once and rotated into order.
//
// Latency of a read: 4 cycles (address, memory, its register, rotation). One read and one write a cycle.
module activation_bank #(
    parameter int I = 16,
    parameter int O = 8,
    parameter int GRANULES = 2048
) (
    input  logic           clk,
    input  logic           write,
    input  logic [   23:0] write_granule,
    input  logic [O*8-1:0] write_data,
    input  logic [   23:0] read_granule,
    output logic [I*8-1:0] read_data
);
  localparam int N = I / O;
  localparam int NB = N > 1 ? $clog2(N) : 0;
  localparam int DEPTH = GRANULES / N;
  localparam int AB = $clog2(DEPTH);

  logic [23:0] granule, granule_1, granule_2;
  always_ff @(posedge clk) begin
    granule   <= read_granule;
    granule_1 <= granule;
    granule_2 <= granule_1;
  end

  logic [N-1:0][O*8-1:0] part;
  genvar k;
  generate
    for (k = 0; k < N; k++) begin : g_part
      // the first granule from `granule` on that lies in memory k
      logic [23:0] first;
      assign first = (granule + 24'(N - 1 - k)) >> NB;
      memory #(
          .WIDTH(O * 8),
          .DEPTH(DEPTH),
          .LATENCY(2)
      ) words (
          .clk,
          .write(write && (write_granule & 24'(N - 1)) == 24'(k)),
          .write_address(AB'(write_granule >> NB)),
          .write_data,
          .read_address(AB'(first)),
          .read_data(part[k])
      );
    end
  endgenerate

  always_ff @(posedge clk) begin
    for (int n = 0; n < N; n++)
      read_data[n*O*8+:O*8] <= part[(granule_2 + 24'(n)) & 24'(N-1)];
  end
endmodule
