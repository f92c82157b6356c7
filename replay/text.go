package replay

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
)

// NothingRead is what is said where no record was read.
const NothingRead = "there was nothing to read: the topic or the file is empty, or nothing is left from where the group is, or --from, on; --from beginning has all of it sent again"

// routesShown is how many routes the text lists; JSON and the page have all.
const routesShown = 30

// examplesShown is how many requests that differ the text lists.
const examplesShown = 5

// WriteText writes the result for people.
func (r *Result) WriteText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s to %s, %s%s\n\n", Shown(r.Source), Shown(r.Target), speed(r.Speed), map[bool]string{true: ", " + r.Ended, false: ""}[r.Ended != "end"])
	if r.Note != "" {
		fmt.Fprintf(&b, "%s\n\n", Shown(r.Note))
	}
	facts := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(facts, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if r.Recorded != nil {
		fact("recorded", "%s to %s, %s", r.Recorded.First.Format(time.RFC3339), r.Recorded.Last.Format(time.RFC3339), seconds(r.Recorded.Seconds))
	}
	fact("took", "%s", seconds(r.Seconds))
	fact("sent", "%s of %s records%s", count(r.Requests.Sent), count(r.Requests.Read), listed(r.Requests.Skipped, "; left out: "))
	if r.Requests.Ahead > 0 {
		if r.Ended == "end" {
			fact("given away", "%s more were read, and are for others of the group", count(r.Requests.Ahead))
		} else {
			fact("not sent yet", "%s more were read", count(r.Requests.Ahead))
		}
	}
	if r.Requests.Stopped > 0 {
		fact("stopped", "%s more were sent, whose answers were not waited for at the end", count(r.Requests.Stopped))
	}
	if r.Requests.Escaped > 0 {
		fact("escaped", "%s, whose paths had bytes that no request may have", count(r.Requests.Escaped))
	}
	if r.Requests.OutOfOrder > 0 {
		fact("out of order", "%s came after one that was recorded later", count(r.Requests.OutOfOrder))
	}
	if r.Gaps.Times > 0 {
		fact("shortened", "gaps, %s, by %s of recorded time", times(r.Gaps.Times), seconds(r.Gaps.Seconds))
	}
	if r.Speed > 0 {
		fact("late", "%s (%s) by more than %s; p99 %s, at most %s%s", count(r.Late.Requests), percent(r.Late.Share), LateAfter, millis(r.Late.P99), millis(r.Late.Max), listed(r.Late.By, "; waited for: "))
	}
	if r.Pauses.Times > 0 {
		fact("paused", "%s, %s, because the target failed", times(r.Pauses.Times), seconds(r.Pauses.Seconds))
	}
	if r.Stalls.Times > 0 {
		fact("stalled", "%s, %s, because there was nothing to read", times(r.Stalls.Times), seconds(r.Stalls.Seconds))
	}
	fact("answers", "%s as recorded, %s differ (%s)%s", count(r.Compared.Same), count(r.Compared.Other+r.Compared.NoAnswer), percent(r.Compared.Share), listed(r.Compared.Failures, "; no answer: "))
	if r.Compared.Unconditional > 0 {
		fact("", "%s of them 200 for a recorded 304 or 206: requests are sent without conditions and ranges", count(r.Compared.Unconditional))
	}
	if r.Network.Connections > 0 {
		fact("network", "a round trip takes %s (%s); measured times hold one", millis(r.Network.RoundTrip), connections(r.Network.Connections))
	}
	if r.Network.Resent > 0 {
		fact("", "%s were sent once more: the target had ended the connection that was kept for them", count(r.Network.Resent))
	}
	facts.Flush()
	if r.Requests.Read == 0 && r.Ended == "end" {
		b.WriteString("\n" + NothingRead + "\n")
	}
	if len(r.Status) > 0 {
		b.WriteByte('\n')
		r.writeMatrix(&b)
		b.WriteByte('\n')
		r.writeRoutes(&b)
	}
	for _, why := range r.Verdict.Why {
		fmt.Fprintf(&b, "\nfailed: %s\n", Shown(why))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writeMatrix writes the statuses as recorded, down, against as answered, across.
func (r *Result) writeMatrix(b *bytes.Buffer) {
	rows, columns := make(map[int]bool), make(map[int]bool)
	cells := make(map[[2]int]int64)
	for _, p := range r.Status {
		rows[p.Recorded], columns[p.Answered] = true, true
		cells[[2]int{p.Recorded, p.Answered}] = p.Requests
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "RECORDED \\ ANSWERED\t")
	across := slices.Sorted(maps.Keys(columns))
	for _, c := range across {
		fmt.Fprintf(w, "%s\t", statusOr(c, "no answer"))
	}
	fmt.Fprintln(w)
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(w, "%s\t", statusOr(row, "none"))
		for _, c := range across {
			cell := "·"
			if n := cells[[2]int{row, c}]; n > 0 {
				cell = count(n)
			}
			fmt.Fprintf(w, "%s\t", cell)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

func (r *Result) writeRoutes(b *bytes.Buffer) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTE\tSENT\tDIFFER\tP50 MS\tP95 MS\tP99 MS\tWHAT CHANGED")
	for i := range min(len(r.Routes), routesShown) {
		route := &r.Routes[i]
		differ, verdict := "-", []string(nil)
		if route.Differ > 0 {
			differ = fmt.Sprintf("%s (%s)", count(route.Differ), percent(route.Share))
			for _, p := range slices.SortedStableFunc(slices.Values(route.Status), func(a, b Pair) int { return cmp.Compare(b.Requests, a.Requests) }) {
				if p.Differs && len(verdict) < 3 {
					verdict = append(verdict, fmt.Sprintf("%s→%s %s", statusOr(p.Recorded, "none"), statusOr(p.Answered, "no answer"), count(p.Requests)))
				}
			}
		}
		quantiles := "-\t-\t-"
		if t := route.Times; t != nil {
			both := func(then, now float64) string { return fmt.Sprintf("%s→%s", tenth(then), tenth(now)) }
			quantiles = both(t.Recorded.P50, t.Measured.P50) + "\t" + both(t.Recorded.P95, t.Measured.P95) + "\t" + both(t.Recorded.P99, t.Measured.P99)
			if t.Verdict != "" {
				verdict = append(verdict, t.Verdict)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", route.name(), count(route.Sent), differ, quantiles, strings.Join(verdict, ", "))
	}
	if more := len(r.Routes) - routesShown; more > 0 {
		fmt.Fprintf(w, "… and %d more: --json and --html have all\n", more)
	}
	w.Flush()
	r.writeExamples(b)
}

// writeExamples writes a request of each of the first routes that differ, to be looked for in the logs.
func (r *Result) writeExamples(b *bytes.Buffer) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	shown := 0
	for i := range r.Routes {
		if len(r.Routes[i].Examples) == 0 || shown == examplesShown {
			break
		}
		if shown++; shown == 1 {
			fmt.Fprint(w, "\nFOR EXAMPLE\tREQUEST\tREQUEST ID\n")
		}
		e := r.Routes[i].Examples[0]
		answered := statusOr(e.Answered, Shown(strings.ReplaceAll(e.Failure, "_", " ")))
		fmt.Fprintf(w, "%s→%s\t%s %s\t%s\n", statusOr(e.Recorded, "none"), answered, Shown(e.Method), Shown(e.Path), Shown(e.ID))
	}
	w.Flush()
}

// name is the route's, for a terminal.
func (r *Route) name() string { return Shown(strings.TrimSpace(r.Method + " " + r.Route)) }

// statusOr is a status, or what is said where there is none.
func statusOr(status int, none string) string {
	if status == 0 {
		return none
	}
	return strconv.Itoa(status)
}

func speed(s float64) string {
	if s == 0 {
		return "as fast as can be"
	}
	return "speed " + strconv.FormatFloat(s, 'g', -1, 64)
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return count(n) + " times"
}

func count(n int64) string { return humanize.Comma(n) }

func connections(n int64) string {
	if n == 1 {
		return "a connection"
	}
	return "the fastest of " + count(n) + " connections"
}

func seconds(s float64) string {
	if s < 60 {
		return fmt.Sprintf("%.3gs", math.Round(s*1000)/1000)
	}
	const most = math.MaxInt64 / 2 / 1e9 // 146 years
	return time.Duration(min(s, most) * 1e9).Round(time.Second).String()
}

func millis(ms float64) string { return tenth(ms) + " ms" }

func tenth(ms float64) string {
	if ms >= 100 {
		return strconv.FormatFloat(ms, 'f', 0, 64)
	}
	return strconv.FormatFloat(ms, 'f', 1, 64)
}

// listed is counts by name, the largest first.
func listed(counts map[string]int64, before string) string {
	if len(counts) == 0 {
		return ""
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return int(counts[b] - counts[a])
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %s", count(counts[name]), strings.ReplaceAll(name, "_", " "))
	}
	return before + strings.Join(names, ", ")
}

// Shown is text from a record for a terminal: what could move its cursor becomes a question mark.
func Shown(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, text)
}
