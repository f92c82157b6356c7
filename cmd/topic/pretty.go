package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/twmb/franz-go/pkg/kgo"
)

// shownRecord is what columns show of drain's records.
type shownRecord struct {
	Time                                      *time.Time
	App, Code, Desc, Method, Host, Path, Dyno string
	Status                                    int
	ServiceMS                                 *int64 `json:"service_ms"`
	Source, Process, Message                  string // of other lines
	Raw                                       string // where no field could be read
}

const (
	red, yellow, green, faint, reset = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"
)

// columns shows records for people: router records and other lines of logs as drain has
// them, and all else as it stands. Nothing of a record reaches the terminal as it is:
// clients wrote it.
func columns(coloured bool) func(*bufio.Writer, *kgo.Record) {
	in := func(colour, text string) string {
		if !coloured || text == "" {
			return text
		}
		return colour + text + reset
	}
	return func(w *bufio.Writer, r *kgo.Record) {
		var s shownRecord
		known := json.Unmarshal(r.Value, &s) == nil
		at := r.Timestamp
		if known && s.Time != nil {
			at = *s.Time
		}
		fmt.Fprint(w, in(faint, at.UTC().Format("2006-01-02T15:04:05.000Z")), " ")
		switch who := strings.TrimSpace(s.App + " " + s.Dyno); {
		case known && (s.Method != "" || s.Path != "" || s.Status != 0 || s.Code != ""):
			status, colour := "-", green
			if s.Status != 0 {
				status = strconv.Itoa(s.Status)
			}
			switch {
			case s.Code != "" || s.Status >= 500:
				colour = red
			case s.Status >= 400:
				colour = yellow
			}
			service := "-"
			if s.ServiceMS != nil {
				service = strconv.FormatInt(*s.ServiceMS, 10) + "ms"
			}
			fmt.Fprintf(w, "%s %-3s %8s %-7s %s%s", in(colour, fmt.Sprintf("%3s", status)), clean(s.Code), service, clean(s.Method), clean(s.Host), clean(s.Path))
			if s.Desc != "" {
				fmt.Fprint(w, " ", in(colour, clean(s.Desc)))
			}
			if who != "" {
				fmt.Fprint(w, " ", in(faint, clean(who)))
			}
		case known && s.Message != "":
			fmt.Fprint(w, in(faint, clean(strings.TrimSpace(s.App+" "+s.Source+"["+s.Process+"]"))), " ", clean(s.Message))
		case known && s.Raw != "":
			fmt.Fprint(w, clean(s.Raw))
		default:
			fmt.Fprint(w, clean(string(r.Value)))
		}
		w.WriteByte('\n')
	}
}

// clean takes out of a text what is not to be seen but does something: moves a terminal's
// cursor, or turns the direction of what follows.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
