package settings

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilStopped is a context that ends with SIGINT or SIGTERM. These may come more than once: every one
// of them is taken, so that a stop is not cut short.
func UntilStopped() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range signals {
			stop()
		}
	}()
	return ctx
}
