// The NPU on an iCEBreaker with iCE40UP5K: the 12 MHz oscillator times 56 / 32 makes its clock, the
// USB bridge's serial line, flow control included, is the host's link, and the red lamp is on while
// the NPU runs. The memories' content needs no reset, so 128 clocks of it are enough.
module board (
    input  logic clk_12mhz,
    input  logic rx,
    output logic tx,
    output logic rts_n,
    output logic busy_n
);
  logic clk, locked, reset, busy;
  // 12 MHz * 56 / 32 = 21 MHz
  SB_PLL40_PAD #(
      .FEEDBACK_PATH("SIMPLE"),
      .DIVR(4'd0),
      .DIVF(7'd55),
      .DIVQ(3'd5),
      .FILTER_RANGE(3'd1)
  ) pll (
      .PACKAGEPIN(clk_12mhz),
      .PLLOUTGLOBAL(clk),
      .LOCK(locked),
      .RESETB(1'b1),
      .BYPASS(1'b0)
  );
  logic [7:0] locked_for;
  assign reset = !locked_for[7];
  always_ff @(posedge clk or negedge locked)
    if (!locked) locked_for <= '0;
    else if (reset) locked_for <= locked_for + 1'b1;
  assign busy_n = !busy;
  npu_compact_serial npu (
      .clk,
      .reset,
      .rx,
      .tx,
      .rts_n,
      .busy
  );
endmodule
