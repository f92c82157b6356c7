package httpapi

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTheLimitsOfTheListener(t *testing.T) {
	const hold = 4 * time.Second
	s := NewHTTPServer(http.NotFoundHandler(), 256<<20, hold, nil)
	if s.IdleTimeout < 185*time.Second {
		t.Error("an idle connection is closed before its sender closes it")
	}
	if s.WriteTimeout < bodyTime(256<<20)+hold {
		t.Error("the largest body, as slow as it may be, is not answered any more")
	}
	if s.ReadTimeout != 0 {
		t.Error("a body has no deadline of its own")
	}
}

func TestASlowHeadIsCutOff(t *testing.T) {
	t.Parallel()
	d := open(t)
	w := d.dial()
	began := time.Now()
	w.send("POST /logs HTTP/1.1\r\nHost: h\r\nX-Slow: ")
	go func() {
		for err := error(nil); err == nil; time.Sleep(100 * time.Millisecond) {
			_, err = w.Write([]byte("x"))
		}
	}()
	w.rest()
	if took := time.Since(began); took < 4*time.Second || took > 8*time.Second {
		t.Errorf("cut off after %v", took)
	}
}

func TestOnlyHTTP1IsSpoken(t *testing.T) {
	d := open(t)
	for _, text := range []string{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"POST /logs HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS by mistake\r\n\r\n",
		"POST /logs\r\n\r\n",
		"POST /logs HTTP/1.1\r\n\r\n",
	} {
		w := d.dial()
		w.send("%s", text)
		if line, _ := w.r.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.") || strings.Contains(line, " 101 ") || strings.Contains(line, " 200 ") {
			t.Errorf("%.20q is answered %q", text, line)
		}
	}
}

func TestTheReasonForNotBeingReadyIsOneLine(t *testing.T) {
	d := open(t, func(s *setup) { s.Logs = true })
	eventually(t, "ready", func() bool { return d.do("GET", "/readyz", nil).status == 200 })
	must(t, d.broker.DeleteTopic(routerTopic))
	must(t, d.broker.DeleteTopic(logsTopic))
	var a answer
	eventually(t, "both are missed", func() bool { a = d.do("GET", "/readyz", nil); return strings.Count(a.body, "topic ") >= 2 })
	if a.status != 503 || strings.Count(a.body, "\n") != 1 {
		t.Errorf("answered %d %q", a.status, a.body)
	}
}
