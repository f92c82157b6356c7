package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/segmentio/kafka-go"

	"drain/bench/reading"
)

// serviceCommand is the reference: drain's job as one would do it with kafka-go's
// Writer, asynchronous, 3,000 records or 5 ms. It answers when all is committed, as
// drain does, and knows nothing of repeats, holds, limits of memory or odd frames.
type serviceCommand struct {
	Listen string `required:""`
	Kafka  string `required:""`
	Topic  string `required:""`
	Read   string `required:"" help:"Way of reading."`
}

// request is one that waits for the commit of its records.
type request struct {
	left   atomic.Int32
	failed atomic.Bool
	done   chan struct{}
}

// Run serves until ctx ends.
func (s *serviceCommand) Run(ctx context.Context) error {
	way, ok := reading.ByName(s.Read)
	if !ok {
		return fmt.Errorf("no way of reading is called %q", s.Read)
	}
	writer := &kafka.Writer{
		Addr: kafka.TCP(s.Kafka), Topic: s.Topic, Async: true, RequiredAcks: kafka.RequireAll,
		BatchSize: 3000, BatchTimeout: 5 * time.Millisecond, BatchBytes: 950_000,
		Completion: func(messages []kafka.Message, err error) {
			for i := range messages {
				r := messages[i].WriterData.(*request)
				if err != nil {
					r.failed.Store(true)
				}
				if r.left.Add(-1) == 0 {
					close(r.done)
				}
			}
		},
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector())
	readers := sync.Pool{New: func() any { return way.New() }}
	bodies := sync.Pool{New: func() any { return new([]byte) }}
	mux := chi.NewRouter()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.Post("/logs", func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			http.Error(w, "no Content-Length", http.StatusLengthRequired)
			return
		}
		kept := bodies.Get().(*[]byte)
		const slack = 32
		if cap(*kept) < int(r.ContentLength)+slack {
			*kept = make([]byte, r.ContentLength+slack)
		}
		body := (*kept)[:r.ContentLength]
		if _, err := io.ReadFull(r.Body, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reader := readers.Get().(reading.Converter)
		records := reader.Convert(make([]byte, 0, 2*len(body)), body)
		readers.Put(reader)
		bodies.Put(kept)
		wait := &request{done: make(chan struct{})}
		messages := make([]kafka.Message, 0, 100)
		for record := range bytes.Lines(records) {
			messages = append(messages, kafka.Message{Value: record[:len(record)-1], WriterData: wait})
		}
		if len(messages) == 0 {
			return
		}
		wait.left.Store(int32(len(messages)))
		if err := writer.WriteMessages(r.Context(), messages...); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		<-wait.done
		if wait.failed.Load() {
			http.Error(w, "not committed", http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: s.Listen, Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
