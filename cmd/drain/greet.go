package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"drain/settings"
)

// greet logs what runs where, and writes to w what to do next.
func greet(w io.Writer, log *slog.Logger, cfg *config, secrets bool, on listeners, kafka []string) {
	ingest, admin := on.ingest, on.admin
	args := []any{"listen", ingest.Addr().String(), "kafka", strings.Join(kafka, ","), "topic", cfg.topic, "ack", "committed"}
	if cfg.queued {
		args[len(args)-1] = "queued"
	}
	if admin != nil {
		args = append(args, "admin", admin.Addr().String())
	}
	if on.syslog != nil {
		args = append(args, "syslog", on.syslog.Addr().String(), "syslog_tls", cfg.syslogTLS != nil)
	}
	log.Info("drain listens", args...)
	if cfg.queued {
		log.Warn("ACK=queued: a 200 does not mean that Kafka has the records; a crash loses what is in memory")
	}
	if !secrets && !settings.Loopback(ingest.Addr().String()) {
		log.Warn("ALLOW_ANONYMOUS: everybody who reaches this address can post logs")
	}
	if s := cfg.kafka.SASL; s != nil && s.Mechanism == "PLAIN" && cfg.kafka.TLS == nil {
		log.Warn("KAFKA_SASL_MECHANISM=PLAIN without TLS: the password can be read on its way; use kafka+ssl:// in KAFKA_URL, or SCRAM-SHA-512")
	}
	if on.syslog != nil && !settings.Loopback(on.syslog.Addr().String()) {
		log.Warn("SYSLOG_LISTEN: everybody who reaches this address can send logs")
	}
	if cfg.maxInflight < 8*int64(cfg.maxBody) {
		log.Warn("MAX_INFLIGHT is less than 8 times MAX_BODY: the largest bodies may find no room and get 503")
	}
	if !log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	user, with := "", ""
	if secrets {
		user, with = `-u ":$SECRET" `, ", with one of the secrets in $SECRET"
	}
	fmt.Fprintf(w, `
  Post a line%s:
    curl %shttp://%s/logs -d '%s'
  or the last lines of an app:
    heroku logs -n 1500 -a YOUR-APP | curl %s--data-binary @- http://%s/logs
`, with, user, settings.Reachable(ingest.Addr()), time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00")+sampleLine, user, settings.Reachable(ingest.Addr()))
	if admin != nil {
		fmt.Fprintf(w, `  See what became of it:
    curl -s http://%s/metrics | grep ^drain_
`, settings.Reachable(admin.Addr()))
	}
	if cfg.embedded() {
		url := ""
		if kafka[0] != "127.0.0.1:9092" {
			url = " --kafka-url " + kafka[0]
		}
		fmt.Fprintf(w, `  Read the records, which are kept in %s:
    go run ./cmd/topic tail%s --from beginning
`, cfg.dataDir, url)
	}
	fmt.Fprintln(w)
}

// sampleLine is a line as `heroku logs` prints it, behind its time; it holds no single quote.
const sampleLine = ` heroku[router]: at=info method=GET path="/hello?token=s3cret&page=2" host=example.herokuapp.com request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd="203.0.113.7" dyno=web.1 connect=0ms service=12ms status=200 bytes=1024 protocol=http1.1 tls=true tls_version=tls1.3`
