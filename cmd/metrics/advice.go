package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"drain/cluster"
)

// adviser adds to the errors of Redis what to do about them.
type adviser struct{}

// DialHook implements redis.Hook.
func (adviser) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (adviser) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return advise(next(ctx, cmd)) }
}

// ProcessPipelineHook implements redis.Hook.
func (adviser) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return advise(next(ctx, cmds)) }
}

// advise leaves an error as it is where it knows nothing to do.
func advise(err error) error {
	if err == nil {
		return nil
	}
	var (
		record tls.RecordHeaderError
		dial   *net.OpError
		slow   net.Error
		theirs cluster.Untrusted
	)
	do, text := "", err.Error()
	says := func(beginnings ...string) bool {
		for _, b := range beginnings {
			if strings.HasPrefix(text, b) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.As(err, &theirs): // says what to look at
	case says("WRONGPASS", "NOAUTH", "ERR invalid password", "ERR AUTH", "ERR Client sent AUTH"):
		do = "correct the password in REDIS_URL"
	case says("NOPERM"):
		do = "allow it to the user in REDIS_URL"
	case says("OOM"):
		do = "Redis is full: give it more memory, or raise its maxmemory"
	case says("READONLY"):
		do = "it is a replica: set REDIS_URL to its primary"
	case strings.Contains(text, "x509: "):
		do = "set REDIS_TRUSTED_CERT to the certificate of its authority"
	case errors.As(err, &record):
		do = "it speaks no TLS there: use another port, or redis:// in REDIS_URL"
	case errors.As(err, &slow) && slow.Timeout():
		do = "it does not answer: is Redis there, and with TLS if REDIS_URL begins with rediss://?"
	case errors.As(err, &dial) && dial.Op == "dial":
		do = "is Redis there? look at REDIS_URL"
	}
	if do == "" || strings.HasSuffix(text, do) { // said by another hook
		return err
	}
	return fmt.Errorf("%w: %s", err, do)
}
