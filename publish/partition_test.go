package publish

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"drain/pool"
)

// idle is a publisher of one topic whose partitions have no senders: the test
// takes their batches.
func idle(partitions int, cfg Config) *Publisher {
	clients, err := pool.New(pool.Config{Size: 1})
	if err != nil {
		panic(err)
	}
	cfg.Topics, cfg.Pool, cfg.Registerer = []string{testTopic}, clients, prometheus.NewRegistry()
	p := New(cfg)
	all := make([]*partition, partitions)
	for id := range all {
		all[id] = newPartition(p.topics[0], id, p)
	}
	p.topics[0].partitions.Store(&all)
	return p
}

// put adds n records of a size as one request.
func (pt *partition) put(n, size int) {
	records := make([]Record, n)
	for i := range records {
		records[i].Value = make([]byte, size-recordOverhead)
	}
	pt.add(NewReceipt(new(owner)), records, 0, nil)
}

// next is what the sender would send now: how many records, and what sealed them.
func (pt *partition) next() string {
	if b := pt.take(); b != nil {
		return fmt.Sprintf("%d by %s", b.records, sealReasons[b.sealedBy])
	}
	return "none"
}

// waiting are the batches behind it.
func (pt *partition) waiting() string {
	var all []string
	for _, b := range pt.sealed {
		all = append(all, fmt.Sprintf("%d by %s", b.records, sealReasons[b.sealedBy]))
	}
	if pt.open != nil {
		all = append(all, fmt.Sprintf("%d open", pt.open.records))
	}
	return strings.Join(all, ", ")
}

func TestPartition(t *testing.T) {
	cfg := Config{BatchRecords: 10, BatchBytes: batchHead + 1000, BatchDelay: 5 * time.Millisecond}
	for promise, test := range map[string]func(*partition, func(got, want string)){
		"a lone record goes at once": func(pt *partition, is func(got, want string)) {
			pt.put(1, 50)
			if len(pt.wake) != 1 {
				is("the sender sleeps", "it is woken")
			}
			is(pt.next(), "1 by idle")
			is(pt.next(), "none")
		},
		"records gather behind the batch under way": func(pt *partition, is func(got, want string)) {
			pt.put(1, 50)
			is(pt.next(), "1 by idle")
			pt.put(1, 50)
			pt.put(2, 50)
			is(pt.waiting(), "3 open")
			is(pt.next(), "3 by idle")
		},
		"a batch that waited for BATCH_DELAY counts as sealed by it": func(pt *partition, is func(got, want string)) {
			pt.put(1, 50)
			is(pt.next(), "1 by idle")
			pt.put(1, 50)
			time.Sleep(cfg.BatchDelay - 1)
			pt.put(1, 50)
			time.Sleep(1 * time.Nanosecond)
			is(pt.next(), "2 by delay")
		},
		"waiting splits no batch": func(pt *partition, is func(got, want string)) {
			pt.put(1, 50)
			is(pt.next(), "1 by idle")
			pt.put(1, 50)
			time.Sleep(time.Hour)
			pt.put(1, 50)
			is(pt.waiting(), "2 open")
		},
		"BATCH_RECORDS seals": func(pt *partition, is func(got, want string)) {
			pt.put(21, 50)
			is(pt.waiting(), "10 by count, 10 by count, 1 open")
			pt.put(9, 50)
			is(pt.waiting(), "10 by count, 10 by count, 10 open")
			pt.put(1, 50)
			is(pt.waiting(), "10 by count, 10 by count, 10 by count, 1 open")
		},
		"BATCH_BYTES seals": func(pt *partition, is func(got, want string)) {
			pt.put(5, 300)
			is(pt.waiting(), "3 by bytes, 2 open")
		},
		"a record that fills more than a batch goes alone": func(pt *partition, is func(got, want string)) {
			pt.put(1, 50)
			pt.put(1, 3000)
			pt.put(1, 50)
			is(pt.waiting(), "1 by bytes, 1 by bytes, 1 open")
		},
		"a stop seals what is open": func(pt *partition, is func(got, want string)) {
			pt.put(1, 50)
			is(pt.next(), "1 by idle")
			pt.put(1, 50)
			pt.p.stopping.Store(true)
			is(pt.next(), "1 by stop")
		},
		"a batch that is put back is next": func(pt *partition, is func(got, want string)) {
			pt.put(21, 50)
			b := pt.take()
			pt.putBack(b)
			is(pt.waiting(), "10 by count, 10 by count, 1 open")
		},
		"the oldest is the batch under way, then the next one": func(pt *partition, is func(got, want string)) {
			start := time.Now()
			age := func() string {
				oldest, ok := pt.oldest()
				if !ok {
					return "nothing"
				}
				return oldest.Sub(start).String()
			}
			is(age(), "nothing")
			pt.put(1, 50)
			is(age(), "0s")
			is(pt.next(), "1 by idle")
			time.Sleep(time.Second)
			pt.put(11, 50)
			is(age(), "0s")
			time.Sleep(time.Second)
			is(pt.next(), "10 by count")
			pt.put(1, 50)
			is(age(), "1s")
			is(pt.next(), "2 by delay")
			is(age(), "1s")
			is(pt.next(), "none")
			is(age(), "nothing")
			pt.put(10, 50)
			time.Sleep(time.Second)
			pt.put(1, 50)
			is(pt.waiting(), "10 by count, 1 open")
			is(age(), "2s")
		},
	} {
		t.Run(promise, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test(idle(1, cfg).topics[0].all()[0], func(got, want string) {
					t.Helper()
					if got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				})
			})
		})
	}
}

// Whatever is added, taken, split and put back: records leave in the order in which
// they came, each once, in batches within the limits, claimed by their requests.
func TestPartition_losesAndSwapsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			BatchRecords: rapid.IntRange(1, 8).Draw(t, "BatchRecords"),
			BatchBytes:   batchHead + rapid.IntRange(1, 400).Draw(t, "BatchBytes"),
		}
		pt := idle(1, cfg).topics[0].all()[0]
		var came, left []string
		var receipts []*Receipt
		var taken *batch
		settle := func() {
			if len(taken.buf) > cfg.BatchBytes && taken.records > 1 || taken.records > cfg.BatchRecords {
				t.Fatalf("a batch of %d records, %d bytes", taken.records, len(taken.buf))
			}
			for rest := taken.buf[batchHead:]; len(rest) > 0; {
				var r Record
				r, rest = readRecord(rest)
				left = append(left, string(r.Value))
			}
			claimed := 0
			for _, c := range taken.receipts {
				claimed += int(c.records)
				c.receipt.finish(c.records, false)
			}
			if claimed != taken.records {
				t.Fatalf("%d of %d records are claimed", claimed, taken.records)
			}
			taken.free()
			taken = nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				records := make([]Record, rapid.IntRange(1, 20).Draw(t, "n"))
				for i := range records {
					records[i].Value = fmt.Appendf(nil, "%d%s", len(came), bytes.Repeat([]byte("."), rapid.IntRange(0, 100).Draw(t, "size")))
					came = append(came, string(records[i].Value))
				}
				receipts = append(receipts, NewReceipt(new(owner)))
				pt.add(receipts[len(receipts)-1], records, 0, nil)
			},
			"take": func(t *rapid.T) {
				if taken == nil {
					taken = pt.take()
				}
			},
			"settle": func(*rapid.T) {
				if taken != nil {
					settle()
				}
			},
			"put back": func(*rapid.T) {
				if taken != nil {
					pt.putBack(taken)
					taken = nil
				}
			},
			"split": func(*rapid.T) {
				if taken != nil && taken.records > 1 {
					var second *batch
					taken, second = taken.split()
					pt.putBack(second)
				}
			},
		})
		for taken != nil || pt.waiting() != "" {
			if taken == nil {
				taken = pt.take()
			}
			settle()
		}
		if !slices.Equal(came, left) {
			t.Fatalf("came %q, left %q", came, left)
		}
		for i, r := range receipts {
			if r.left != 1 {
				t.Fatalf("request %d waits for %d more", i, r.left-1)
			}
		}
	})
}
