package main

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// The ratios below which drain must not fall. They are wider than what is reached, so
// that a busy machine alone does not break them; what is reached stands in
// docs/benchmarks.md.
const (
	leastTimesIdiomatic = 16.0 // reading, as fast
	leastTimesGeneral   = 6.0
	mostOfIdiomatic     = 0.20 // processor time a line, whole service
	mostOfWriter        = 0.65
	leastPacked         = 4.5 // bytes to Kafka with zstd, as few
	mostAllocations     = 30  // a request
)

// short compares drain with the references for some seconds.
func (b *bench) short() error {
	b.duration = time.Second
	var failed []error
	check := func(what string, got, limit float64, ok bool) {
		verdict := "ok"
		if !ok {
			verdict = "FAILED"
			failed = append(failed, fmt.Errorf("%s: %.2f, limit %.2f", what, got, limit))
		}
		fmt.Fprintf(os.Stdout, "%-70s %6.2f (limit %.2f) %s\n", what, got, limit, verdict)
	}
	ways := readings(3)
	ns := func(i int) float64 { return middle(ways[i].NsPerLine) }
	check("reading: times as fast as the idiomatic way", ns(2)/ns(0), leastTimesIdiomatic, ns(2)/ns(0) >= leastTimesIdiomatic)
	check("reading without the express lane: times as fast", ns(2)/ns(1), leastTimesGeneral, ns(2)/ns(1) >= leastTimesGeneral)
	check("reading: allocations a line", ways[0].Allocations, 0.01, ways[0].Allocations < 0.01)

	load := full
	load.Connections = 64
	points := []Point{{Setup: plain("drain", "kfake", 4), Load: load}, {Setup: plain("writer", "kfake", 4), Load: load}, {Setup: plain("idiomatic", "kfake", 4), Load: load}}
	packed := points[0]
	packed.Compression = "zstd"
	all, err := b.rounds("short", 3, append(points, packed))
	if err != nil {
		return err
	}
	cpu := func(i int) float64 { return median(all[i].Runs, func(r *Run) float64 { return r.CPU }) }
	bytes := func(i int) float64 { return median(all[i].Runs, func(r *Run) float64 { return r.SentBytes }) }
	check("processor time a line, of the Writer and idiomatic reading", cpu(0)/cpu(2), mostOfIdiomatic, cpu(0)/cpu(2) <= mostOfIdiomatic)
	check("processor time a line, of the Writer alone", cpu(0)/cpu(1), mostOfWriter, cpu(0)/cpu(1) <= mostOfWriter)
	requests := 100 * median(all[0].Runs, func(r *Run) float64 { return r.Allocations })
	check("allocations a request of 100 lines", requests, mostAllocations, requests <= mostAllocations)
	check("zstd: times fewer bytes to Kafka", bytes(0)/bytes(3), leastPacked, bytes(0)/bytes(3) >= leastPacked)
	return errors.Join(failed...)
}
