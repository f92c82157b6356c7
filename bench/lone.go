package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// Lone is how long one line takes on an idle service, and the same record alone to
// the same broker, in turns; ms.
type Lone struct {
	Times                            int
	P50, P99, ProduceP50, ProduceP99 float64
}

// lone posts a line each 20 ms, and between them produces a record itself.
func (b *bench) lone() (*Lone, error) {
	const times = 1000
	s, err := b.service(plain("drain", "kfake", 1))
	if err != nil {
		return nil, err
	}
	dir, count, err := b.folder(Load{Lines: 1})
	if err != nil {
		return nil, err
	}
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.brokers["kfake"].addr), Transport: transport}
	record := bytes.Repeat([]byte("x"), 450)
	produce := func() error {
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		defer cancel()
		_, err := client.Produce(ctx, &kafka.ProduceRequest{Topic: s.topic, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes(record)})})
		return err
	}
	post := func(i int) error {
		body, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i%count)))
		if err != nil {
			return err
		}
		res, err := http.Post(s.url+"/logs", "application/logplex-1", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %s: %w", res.Status, err)
		}
		return nil
	}
	var took [2][]float64
	for i := range times + 50 {
		for which, do := range []func() error{func() error { return post(i) }, produce} {
			time.Sleep(10 * time.Millisecond)
			began := time.Now()
			if err := do(); err != nil {
				return nil, fmt.Errorf("a lone line: %w", err)
			}
			if i >= 50 {
				took[which] = append(took[which], float64(time.Since(began).Microseconds())/1000)
			}
		}
	}
	at := func(values []float64, share float64) float64 {
		slices.Sort(values)
		return values[int(share*float64(len(values)))]
	}
	return &Lone{times, at(took[0], 0.5), at(took[0], 0.99), at(took[1], 0.5), at(took[1], 0.99)}, nil
}
