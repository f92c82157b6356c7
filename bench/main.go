// Command bench measures drain beside what it could have been, as processes on one
// machine, in turns. scripts/bench runs it; docs/benchmarks.md tells what it found.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands are what bench can be told. All but run are the processes that it starts.
type commands struct {
	Run     runCommand     `cmd:"" default:"withargs" help:"Measure."`
	Report  reportCommand  `cmd:"" help:"Write the tables and plots of a measurement once more."`
	Profile profileCommand `cmd:"" help:"Make the profile by which drain is compiled."`
	Broker  brokerCommand  `cmd:"" hidden:""`
	Service serviceCommand `cmd:"" hidden:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	cli := kong.Parse(&c, kong.Name("bench"), kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Description("Measures drain, a reference with kafka-go's Writer, and rivals' parsers, on loopback."))
	if err := cli.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
