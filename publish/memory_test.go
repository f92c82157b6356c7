package publish

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that does not answer, and 30 MB of records of 300 bytes: whatever their
// requests were answered, they take little more than themselves.
func TestMemory_ofWhatIsHeldIsLittleMoreThanItself(t *testing.T) {
	const held = 30_000_000
	given := func(r *Receipt) {
		if err := r.Wait(context.Background(), time.Now()); !errors.Is(err, ErrUncommitted) {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		records int
		how     string
		answer  func(*Receipt)
	}{
		{100, "answered 503", given},
		{1, "answered 503", given},
		{1, "queued", (*Receipt).Forget},
	} {
		t.Run(fmt.Sprintf("%d a request, %s", test.records, test.how), func(t *testing.T) {
			wire := new(wire)
			c := fake(t, kfake.ListenFn(wire.listen))
			s := serve(t, c.ListenAddrs(), options{}).known()
			end := wire.silence(t, int32(kmsg.Produce))
			records := make([]Record, test.records)
			for i := range records {
				records[i].Value = make([]byte, 300)
			}
			before := heap()
			for sent := 0; sent < held; sent += 300 * test.records {
				test.answer(s.publish(uint64(sent), records...))
			}
			times := float64(heap()-before) / held
			t.Logf("%.2f times what is held", times)
			if times > 1.5 {
				t.Errorf("1 MB of records takes %.2f MB", times)
			}
			end()
			s.eventually(soon, "all is stored", func() bool { return s.cfg.Budget.Used() == 0 })
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools keep takes two
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
