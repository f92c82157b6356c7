package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"drain/replay"
)

// screen shows on standard error how far the replay is: a line at the bottom of a terminal, or a line of the log now and
// then. The log is written through it.
type screen struct {
	w        io.Writer
	terminal bool
	log      *slog.Logger

	mu    sync.Mutex // guards the following
	bar   *progressbar.ProgressBar
	done  chan struct{}
	ended sync.WaitGroup

	sentAll, sentThen, failed, late int64
	at                              int64 // recorded time of the newest request that was sent, microseconds
}

const (
	redraw  = 200 * time.Millisecond
	tellLog = 10 * time.Second

	barWidth = 10
	// beside is what of a terminal's line is not for the text: the share, the bar and the time.
	beside = len(" 100% |") + barWidth + len("|  [99h59m59s] ") + 1
)

func newScreen(w io.Writer, terminal bool) *screen { return &screen{w: w, terminal: terminal} }

// Terminal tells whether it is one.
func (s *screen) Terminal() bool { return s.terminal }

// Write writes a line of the log above the bar.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	return s.w.Write(p)
}

// sent counts a request.
func (s *screen) sent(r *replay.Sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sentAll++
	s.at = max(s.at, r.Time)
	if r.Failure != replay.Answered {
		s.failed++
	}
	if r.Late > replay.LateAfter {
		s.late++
	}
}

// show begins to show progress, until close.
func (s *screen) show(progress func() (all, read int64)) {
	s.done = make(chan struct{})
	every := tellLog
	if s.terminal {
		every = redraw
		s.mu.Lock()
		all, _ := progress()
		s.bar = progressbar.NewOptions64(max(all, 1), progressbar.OptionSetWriter(s.w), progressbar.OptionSetWidth(barWidth), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(true))
		s.mu.Unlock()
	}
	s.ended.Go(func() {
		for {
			select {
			case <-s.done:
				return
			case <-time.After(every):
			}
			s.tell(every, progress)
		}
	})
}

func (s *screen) tell(since time.Duration, progress func() (all, read int64)) {
	all, read := progress()
	s.mu.Lock()
	rate := float64(s.sentAll-s.sentThen) / since.Seconds()
	s.sentThen = s.sentAll
	at := "-"
	if s.at > 0 {
		at = time.UnixMicro(s.at).UTC().Format(time.RFC3339)
	}
	if s.bar != nil {
		if all > 0 {
			s.bar.ChangeMax64(all)
		}
		s.bar.Describe(fitting(columns(s.w)-beside, at, fmt.Sprintf("%s sent, %.0f/s, %s late, %s failed", humanize.Comma(s.sentAll), rate, humanize.Comma(s.late), humanize.Comma(s.failed))))
		_ = s.bar.Set64(min(read, max(all-1, 0)))
		s.mu.Unlock()
		return
	}
	args := []any{"recorded", at, "sent", s.sentAll, "per_second", int64(rate), "late", s.late, "no_answer", s.failed}
	s.mu.Unlock()
	if all > 0 {
		args = append(args, "of", fmt.Sprintf("%.1f%%", 100*float64(read)/float64(all)))
	}
	s.log.Info("replays", args...)
}

// columns is how wide a terminal is.
func columns(w io.Writer) int {
	if file, isFile := w.(*os.File); isFile {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// fitting puts a recorded time before a text, as much as there is room for: a longer line would go over
// two, of which only one is cleared.
func fitting(room int, at, text string) string {
	if whole := at + "  " + text; len(whole) <= room {
		return whole
	}
	return text[:max(min(len(text), room), 0)]
}

// close ends what show began.
func (s *screen) close() {
	close(s.done)
	s.ended.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}
