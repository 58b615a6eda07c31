// The NPU on a ULX3S, whatever its chip: the 25 MHz oscillator times 16 / 5 makes its clock, the USB
// bridge's serial line is the host's link, and the first lamp is on while the NPU runs.
module board (
    input  logic clk_25mhz,
    input  logic ftdi_txd,
    output logic ftdi_rxd,
    output logic led
);
  logic clk, locked;
  (* FREQUENCY_PIN_CLKI="25", FREQUENCY_PIN_CLKOP="80" *)
  EHXPLLL #(
      .PLLRST_ENA("DISABLED"),
      .INTFB_WAKE("DISABLED"),
      .STDBY_ENABLE("DISABLED"),
      .DPHASE_SOURCE("DISABLED"),
      .OUTDIVIDER_MUXA("DIVA"),
      .OUTDIVIDER_MUXB("DIVB"),
      .OUTDIVIDER_MUXC("DIVC"),
      .OUTDIVIDER_MUXD("DIVD"),
      .CLKI_DIV(5),
      .CLKFB_DIV(16),
      .CLKOP_ENABLE("ENABLED"),
      .CLKOP_DIV(7),
      .CLKOP_CPHASE(3),
      .CLKOP_FPHASE(0),
      .FEEDBK_PATH("CLKOP")
  ) pll (
      .RST(1'b0),
      .STDBY(1'b0),
      .CLKI(clk_25mhz),
      .CLKOP(clk),
      .CLKFB(clk),
      .CLKINTFB(),
      .PHASESEL0(1'b0),
      .PHASESEL1(1'b0),
      .PHASEDIR(1'b1),
      .PHASESTEP(1'b1),
      .PHASELOADREG(1'b1),
      .PLLWAKESYNC(1'b0),
      .ENCLKOP(1'b0),
      .LOCK(locked)
  );
  logic [1:0] reset;
  always_ff @(posedge clk) reset <= {reset[0], !locked};
  npu_serial npu (
      .clk,
      .reset(reset[1]),
      .rx(ftdi_txd),
      .tx(ftdi_rxd),
      .busy(led)
  );
endmodule
