package syslog

import (
	"strings"
	"testing"
)

const (
	fromLogplex = "<172>1 2019-09-13T20:01:06+00:00 host heroku logplex - "
	fromShuttle = "<172>1 2019-09-13T20:01:06.000000+00:00 heroku token log-shuttle - - "
)

func TestLossNoticesAreCounted(t *testing.T) {
	for _, c := range []struct {
		message string
		code    string
		lost    int64
	}{
		{lossNotice, "L10", 1},
		{fromLogplex + "Error L10 (output buffer overflow): drain 'd.437d9a5c-2f9c-4f4b-8b5a-6b1f4a2b7c11' dropped 1 messages since 2022-04-21T19:02:23.625396+00:00.", "L10", 1},
		{fromLogplex + "Error L10 (output buffer overflow): 123456 messages dropped since 2019-09-13T20:01:04+00:00.", "L10", 123456},
		{fromShuttle + "Error L12: 222 messages dropped since 2019-09-13T20:01:04.000000+00:00.\n", "L12", 222},
		{fromShuttle + "Error L13: 111 messages lost since 2019-09-13T20:01:04.000000+00:00.\n", "L13", 111},
		{fromLogplex + "Error L10 (output buffer overflow): 999999999999999 messages dropped", "L10", 999_999_999_999_999},
		{fromLogplex + "Error L10 (output buffer overflow): 0 messages dropped", "L10", 0},
		{fromLogplex + "Error L10", "L10", 0},
		{fromLogplex + "Error L10 messages", "L10", 10},
		{fromLogplex + "Error L10 (output buffer overflow): many messages dropped", "L10", 0},
		{fromLogplex + "Error L10 (output buffer overflow): -5 messages dropped", "L10", 5},
	} {
		for _, nilData := range []bool{false, true} {
			m := parse(&Parser{NilData: nilData}, c.message, Counted)
			if code, n, ok := m.Loss(); code != c.code || n != c.lost || !ok {
				t.Errorf("%q: %s %d %v", c.message, code, n, ok)
			}
		}
	}
}

func TestACountTooLargeToBeTrueDoesNotOverflow(t *testing.T) {
	for digits := 16; digits < 70; digits++ {
		m := parse(new(Parser), fromLogplex+"Error L10 (output buffer overflow): "+strings.Repeat("9", digits)+" messages dropped", Counted)
		if code, n, ok := m.Loss(); code != "L10" || n <= 0 || n > 999_999_999_999_999 || !ok {
			t.Errorf("%d digits: %s %d %v", digits, code, n, ok)
		}
	}
}

func TestTheSameWordsFromOthersAreNoNotice(t *testing.T) {
	const words = "Error L10 (output buffer overflow): 1 messages dropped since 2019-09-13T20:01:04+00:00."
	for _, message := range []string{
		"<190>1 2019-09-13T20:01:06+00:00 host app web.1 - " + words,
		"<190>1 2019-09-13T20:01:06+00:00 host app logplex - " + words,
		"<190>1 2019-09-13T20:01:06+00:00 host heroku web.1 - " + words,
		"<190>1 2019-09-13T20:01:06+00:00 host heroku router - " + words,
		"<190>1 2019-09-13T20:01:06+00:00 host log-shuttle web.1 - " + words,
		"<190>1 2019-09-13T20:01:06+00:00 host app log-shuttle.1 - " + words,
		"<190>1 2019-09-13T20:01:06+00:00 heroku logplex app - " + words,
		"<190>1 nonsense host heroku logplex - " + words,
		fromLogplex + "an " + words,
		fromLogplex + "Error L1",
		fromLogplex + "Error L11 (tail buffer overflow): 1 messages dropped since then",
		fromLogplex + "Error R14 (Memory quota exceeded)",
		fromLogplex,
	} {
		m := parse(new(Parser), message, Counted)
		if code, n, ok := m.Loss(); ok || code != "" || n != 0 {
			t.Errorf("%q: %s %d", message, code, n)
		}
	}
}
