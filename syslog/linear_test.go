//go:build unix

package syslog

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

const megabyte = 1 << 20

// hostile are bodies of about n bytes, each meant to make a reader look at bytes
// again and again.
var hostile = map[string]func(n int) string{
	"<":                 func(n int) string { return repeat("<", n) },
	"<1>":               func(n int) string { return repeat("<1>", n) },
	"1<1>":              func(n int) string { return repeat("1<1>", n) },
	"1 <1>":             func(n int) string { return repeat("1 <1>", n) },
	" <1>":              func(n int) string { return repeat(" <1>", n) },
	"0 <":               func(n int) string { return repeat("0 <", n) },
	"9":                 func(n int) string { return repeat("9", n) },
	"digits and spaces": func(n int) string { return repeat("9 ", n) },
	"-":                 func(n int) string { return repeat("-", n) },
	"-9":                func(n int) string { return repeat("-9", n) },
	"newlines":          func(n int) string { return "x" + repeat("\n", n) },
	"lines of nothing":  func(n int) string { return "x" + repeat("\nx", n) },
	"counts of 20 digits": func(n int) string {
		return repeat("12345678901234567890 <1>", n)
	},
	"counts beyond the body": func(n int) string { return repeat("99999999 <1>x", n) },
	"counts into one run of digits": func(n int) string {
		return repeat(fmt.Sprint(n/2, " <1>"), n/4) + repeat("9", 3*n/4)
	},
	"counts to the end of one run of digits": func(n int) string {
		var body strings.Builder
		for end := 3 * n / 4; body.Len() < n/4; {
			fmt.Fprintf(&body, "%09d <1>", end-body.Len()-len("123456789 "))
		}
		return body.String() + repeat("9", 3*n/4-body.Len()+1) + " <1>" + repeat("x", n/4)
	},
	"counts behind one run of digits": func(n int) string {
		return "1 <1>" + repeat("9", n/2) + repeat(" <1>1", n/2)
	},
	"no structured data": func(n int) string { return frame("<1>1 - h a p m [a b=\"" + repeat("c", n) + "\n") },
	"escapes":            func(n int) string { return frame("<1>1 - h a p m [a b=\"" + repeat(`\"`, n) + "\"]\n") },
	"elements":           func(n int) string { return frame("<1>1 - h a p m " + repeat("[a1 b=\"\"]", n) + "\n") },
	"no brackets":        func(n int) string { return "2022-06-13T14:52:23Z " + repeat("[", n) },
	"long fields":        func(n int) string { return frame("<1>1 " + repeat("2", n/2) + " " + repeat("h", n/2)) },
	"a long fraction":    func(n int) string { return frame("<1>1 2022-06-13T14:52:23." + repeat("9", n)) },
}

func repeat(s string, n int) string { return strings.Repeat(s, n/len(s)) }

func TestTimeGrowsWithTheBodyAndNotFaster(t *testing.T) {
	for name, body := range hostile {
		t.Run(name, func(t *testing.T) {
			small, large := quickest([]byte(body(megabyte))), quickest([]byte(body(4*megabyte)))
			if limit := 3*4*small + time.Second; large > limit {
				t.Errorf("1 MB takes %v, 4 MB %v", small, large)
			}
		})
	}
}

// quickest is the processor's time that splitting and parsing body takes: the
// clock would count what else the machine does.
func quickest(body []byte) time.Duration {
	best := time.Duration(1<<63 - 1)
	var spans []Span
	for range 3 {
		begin := processorTime()
		spans = Split(spans[:0], body)
		var p Parser
		var m Message
		for _, s := range spans {
			p.Parse(&m, body, s)
		}
		best = min(best, processorTime()-begin)
	}
	return best
}

func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestNoCountMakesSplitAllocate(t *testing.T) {
	for name, hostileBody := range hostile {
		body := []byte(hostileBody(10_000))
		spans := Split(nil, body)
		if n := testing.AllocsPerRun(10, func() { spans = Split(spans[:0], body) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
